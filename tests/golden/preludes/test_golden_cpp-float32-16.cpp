#include <cstdlib>
#include <cstring>
#include <omp.h>
#if defined(__SSE3__)
#include <immintrin.h>
#endif

#define STEP static __attribute__((noinline)) void
#define INLINE static inline __attribute__((always_inline))
// Keeps a compiler from holding what lies at these places in registers.
#define READ_ANEW(a, b) asm volatile("" : "+r"(a), "+r"(b))
// Entries of two registers, by constants.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (reg_index){__VA_ARGS__})
#endif

typedef float real;
typedef float reg __attribute__((vector_size(64), aligned(4), may_alias));
typedef int reg_index __attribute__((vector_size(64)));
enum { W = 16, REG = 16 };

typedef float entry;
typedef reg vec;
INLINE vec load(const entry* p) { return *(const vec*)p; }
INLINE void store(entry* p, vec v) { *(vec*)p = v; }
INLINE vec splat(const entry* p) { return *p - vec{}; }
// Two floats as the eight bytes that a broadcast takes; they may lie anywhere.
INLINE double pair(const entry* p) {
  double bytes;
  memcpy(&bytes, p, sizeof(bytes));
  return bytes;
}
// 8 entries again and again: one load that broadcasts.
INLINE vec repeat_8(const entry* p) {
#ifdef __AVX512F__
  return (vec)_mm512_broadcast_f64x4(_mm256_loadu_pd((const double*)p));
#else
  vec v;
  for (int j = 0; j < W; j++) v[j] = p[j % 8];
  return v;
#endif
}
// 4 entries again and again: one load that broadcasts.
INLINE vec repeat_4(const entry* p) {
#ifdef __AVX512F__
  return (vec)_mm512_broadcast_f32x4(_mm_loadu_ps((const float*)p));
#else
  vec v;
  for (int j = 0; j < W; j++) v[j] = p[j % 4];
  return v;
#endif
}
// 2 entries again and again: one load that broadcasts.
INLINE vec repeat_2(const entry* p) {
#ifdef __AVX512F__
  return (vec)_mm512_set1_pd(pair(p));
#else
  vec v;
  for (int j = 0; j < W; j++) v[j] = p[j % 2];
  return v;
#endif
}
INLINE entry scalar(const entry* p) { return *p; }
INLINE void store(entry* p, entry v) { *p = v; }
INLINE entry sum(vec v) {
  entry z = 0;
  for (int j = 0; j < W; j++) z += v[j];
  return z;
}

// The first COUNT numbers at p, then zeros; and the way back.
template <int COUNT> INLINE reg part(const float* p) {
  if constexpr (COUNT >= REG) return *(const reg*)p;
#ifdef __AVX512F__
  return (reg)_mm512_maskz_loadu_ps((1 << COUNT) - 1, p);
#endif
  reg v = {};
  memcpy(&v, p, COUNT * sizeof(float));
  return v;
}
template <int COUNT> INLINE void put(float* p, reg v) {
  if constexpr (COUNT >= REG) { *(reg*)p = v; return; }
#ifdef __AVX512F__
  _mm512_mask_storeu_ps(p, (1 << COUNT) - 1, v);
  return;
#endif
  memcpy((void*)p, &v, COUNT * sizeof(float));
}

// The transpose of 16 registers of 16 entries.
INLINE void square(reg& r0, reg& r1, reg& r2, reg& r3, reg& r4, reg& r5, reg& r6, reg& r7, reg& r8, reg& r9, reg& r10, reg& r11, reg& r12, reg& r13, reg& r14, reg& r15) {
  const reg t0 = SHUFFLE(r0, r2, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t1 = SHUFFLE(r0, r2, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t2 = SHUFFLE(r1, r3, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t3 = SHUFFLE(r1, r3, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t4 = SHUFFLE(t0, t2, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t5 = SHUFFLE(t0, t2, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t6 = SHUFFLE(t1, t3, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t7 = SHUFFLE(t1, t3, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t8 = SHUFFLE(r4, r6, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t9 = SHUFFLE(r4, r6, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t10 = SHUFFLE(r5, r7, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t11 = SHUFFLE(r5, r7, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t12 = SHUFFLE(t8, t10, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t13 = SHUFFLE(t8, t10, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t14 = SHUFFLE(t9, t11, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t15 = SHUFFLE(t9, t11, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t16 = SHUFFLE(r8, r10, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t17 = SHUFFLE(r8, r10, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t18 = SHUFFLE(r9, r11, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t19 = SHUFFLE(r9, r11, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t20 = SHUFFLE(t16, t18, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t21 = SHUFFLE(t16, t18, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t22 = SHUFFLE(t17, t19, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t23 = SHUFFLE(t17, t19, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t24 = SHUFFLE(r12, r14, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t25 = SHUFFLE(r12, r14, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t26 = SHUFFLE(r13, r15, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t27 = SHUFFLE(r13, r15, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t28 = SHUFFLE(t24, t26, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t29 = SHUFFLE(t24, t26, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t30 = SHUFFLE(t25, t27, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const reg t31 = SHUFFLE(t25, t27, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const reg t32 = SHUFFLE(t4, t12, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t33 = SHUFFLE(t20, t28, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t34 = SHUFFLE(t4, t12, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t35 = SHUFFLE(t20, t28, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t36 = SHUFFLE(t32, t33, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t37 = SHUFFLE(t34, t35, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t38 = SHUFFLE(t32, t33, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const reg t39 = SHUFFLE(t34, t35, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const reg t40 = SHUFFLE(t5, t13, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t41 = SHUFFLE(t21, t29, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t42 = SHUFFLE(t5, t13, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t43 = SHUFFLE(t21, t29, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t44 = SHUFFLE(t40, t41, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t45 = SHUFFLE(t42, t43, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t46 = SHUFFLE(t40, t41, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const reg t47 = SHUFFLE(t42, t43, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const reg t48 = SHUFFLE(t6, t14, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t49 = SHUFFLE(t22, t30, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t50 = SHUFFLE(t6, t14, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t51 = SHUFFLE(t22, t30, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t52 = SHUFFLE(t48, t49, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t53 = SHUFFLE(t50, t51, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t54 = SHUFFLE(t48, t49, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const reg t55 = SHUFFLE(t50, t51, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const reg t56 = SHUFFLE(t7, t15, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t57 = SHUFFLE(t23, t31, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const reg t58 = SHUFFLE(t7, t15, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t59 = SHUFFLE(t23, t31, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const reg t60 = SHUFFLE(t56, t57, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t61 = SHUFFLE(t58, t59, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const reg t62 = SHUFFLE(t56, t57, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const reg t63 = SHUFFLE(t58, t59, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  r0 = t36;
  r1 = t44;
  r2 = t52;
  r3 = t60;
  r4 = t38;
  r5 = t46;
  r6 = t54;
  r7 = t62;
  r8 = t37;
  r9 = t45;
  r10 = t53;
  r11 = t61;
  r12 = t39;
  r13 = t47;
  r14 = t55;
  r15 = t63;
}
// target[to[i] + j] = source[since[j] + i] for i < COLUMNS, j < ROWS; zeros for other j
// where the target's vectors are PADDED.
template <int COLUMNS, int ROWS, bool PADDED>
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  enum { N = 16 };
  if constexpr (COLUMNS > 0 && (PADDED || ROWS > 0)) {
    reg r0 = {}, r1 = {}, r2 = {}, r3 = {}, r4 = {}, r5 = {}, r6 = {}, r7 = {}, r8 = {}, r9 = {}, r10 = {}, r11 = {}, r12 = {}, r13 = {}, r14 = {}, r15 = {};
    if constexpr (ROWS > 0) r0 = part<(COLUMNS - 0) * 1>((const real*)(source + since[0] + 0));
    if constexpr (ROWS > 1) r1 = part<(COLUMNS - 0) * 1>((const real*)(source + since[1] + 0));
    if constexpr (ROWS > 2) r2 = part<(COLUMNS - 0) * 1>((const real*)(source + since[2] + 0));
    if constexpr (ROWS > 3) r3 = part<(COLUMNS - 0) * 1>((const real*)(source + since[3] + 0));
    if constexpr (ROWS > 4) r4 = part<(COLUMNS - 0) * 1>((const real*)(source + since[4] + 0));
    if constexpr (ROWS > 5) r5 = part<(COLUMNS - 0) * 1>((const real*)(source + since[5] + 0));
    if constexpr (ROWS > 6) r6 = part<(COLUMNS - 0) * 1>((const real*)(source + since[6] + 0));
    if constexpr (ROWS > 7) r7 = part<(COLUMNS - 0) * 1>((const real*)(source + since[7] + 0));
    if constexpr (ROWS > 8) r8 = part<(COLUMNS - 0) * 1>((const real*)(source + since[8] + 0));
    if constexpr (ROWS > 9) r9 = part<(COLUMNS - 0) * 1>((const real*)(source + since[9] + 0));
    if constexpr (ROWS > 10) r10 = part<(COLUMNS - 0) * 1>((const real*)(source + since[10] + 0));
    if constexpr (ROWS > 11) r11 = part<(COLUMNS - 0) * 1>((const real*)(source + since[11] + 0));
    if constexpr (ROWS > 12) r12 = part<(COLUMNS - 0) * 1>((const real*)(source + since[12] + 0));
    if constexpr (ROWS > 13) r13 = part<(COLUMNS - 0) * 1>((const real*)(source + since[13] + 0));
    if constexpr (ROWS > 14) r14 = part<(COLUMNS - 0) * 1>((const real*)(source + since[14] + 0));
    if constexpr (ROWS > 15) r15 = part<(COLUMNS - 0) * 1>((const real*)(source + since[15] + 0));
    square(r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15);
    if constexpr (COLUMNS > 0) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[0] + 0), r0);
    if constexpr (COLUMNS > 1) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[1] + 0), r1);
    if constexpr (COLUMNS > 2) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[2] + 0), r2);
    if constexpr (COLUMNS > 3) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[3] + 0), r3);
    if constexpr (COLUMNS > 4) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[4] + 0), r4);
    if constexpr (COLUMNS > 5) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[5] + 0), r5);
    if constexpr (COLUMNS > 6) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[6] + 0), r6);
    if constexpr (COLUMNS > 7) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[7] + 0), r7);
    if constexpr (COLUMNS > 8) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[8] + 0), r8);
    if constexpr (COLUMNS > 9) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[9] + 0), r9);
    if constexpr (COLUMNS > 10) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[10] + 0), r10);
    if constexpr (COLUMNS > 11) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[11] + 0), r11);
    if constexpr (COLUMNS > 12) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[12] + 0), r12);
    if constexpr (COLUMNS > 13) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[13] + 0), r13);
    if constexpr (COLUMNS > 14) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[14] + 0), r14);
    if constexpr (COLUMNS > 15) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[15] + 0), r15);
  }
}

// target[j] = source[offsets[j]] for j < count, then zeros up to padding.
INLINE void gather(entry* target, const entry* source, const int* offsets, int count, int padding) {
  for (int j = 0; j < count; j++) target[j] = source[offsets[j]];
  if (padding > count) memset((void*)(target + count), 0, (padding - count) * sizeof(entry));
}
// Lines of the next block, on their way while this one is computed.
template <bool WRITES> INLINE void prefetch(const entry* start, int count) {
  for (const char *p = (const char*)start, *end = (const char*)(start + count); p < end; p += 64)
    __builtin_prefetch(p, WRITES, 2);
}
// A vector or a part of one: COUNT entries in a row, then zeros where the target is PADDED.
template <int COUNT, bool PADDED> INLINE void copy(entry* target, const entry* source) {
  enum { ALL = COUNT * (sizeof(entry) / sizeof(real)) };
  enum { FIRST = ALL < REG ? ALL : REG, SECOND = ALL - FIRST };
  put<PADDED ? REG : FIRST>((real*)target, part<FIRST>((const real*)source));
  if constexpr (sizeof(entry) > sizeof(real) && (PADDED || ALL > REG))
    put<PADDED ? REG : SECOND>((real*)target + REG, part<SECOND>((const real*)source + REG));
}

// Memory that is kept between calls: fresh pages at each call would cost more than a step.
struct Workspace {
  char* start;
  size_t size;
  entry* get(size_t entries) {
    size_t bytes = (entries * sizeof(entry) + 4095) / 4096 * 4096;
    if (bytes > size) {
      free(start);
      size = 0;
      start = (char*)aligned_alloc(4096, bytes);
      if (!start) return nullptr;
      memset(start, 0, bytes);
      size = bytes;
    }
    return (entry*)start;
  }
};
// What one call works in: its own memory, and that of each of its threads.
struct Room {
  Workspace call, *own;
  int threads;
};
// Rooms that no call is in. Each call takes one out, so that calls may run side by side; there is
// no lock, for a fork could leave it locked.
static Room* rooms[64];

static void drop_room(Room* room) {
  for (int t = 0; t < room->threads; t++) free(room->own[t].start);
  free(room->own);
  free(room->call.start);
  free(room);
}
static Room* take_room(int threads) {
  Room* room = nullptr;
  for (Room*& place : rooms)
    if (__atomic_load_n(&place, __ATOMIC_RELAXED)) {
      room = __atomic_exchange_n(&place, (Room*)nullptr, __ATOMIC_ACQUIRE);
      if (room) break;
    }
  if (!room) room = (Room*)calloc(1, sizeof(Room));
  if (!room || room->threads >= threads) return room;
  Workspace* own = (Workspace*)realloc((void*)room->own, threads * sizeof(Workspace));
  if (!own) {
    drop_room(room);
    return nullptr;
  }
  memset((void*)(own + room->threads), 0, (threads - room->threads) * sizeof(Workspace));
  room->own = own;
  room->threads = threads;
  return room;
}
static void leave_room(Room* room) {
  for (Room*& place : rooms) {
    Room* none = nullptr;
    if (__atomic_compare_exchange_n(&place, &none, room, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
      return;
  }
  drop_room(room);
}
static void drop_rooms() {
  for (Room*& place : rooms)
    if (Room* room = __atomic_exchange_n(&place, (Room*)nullptr, __ATOMIC_ACQUIRE)) drop_room(room);
}
