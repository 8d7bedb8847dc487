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
typedef float reg __attribute__((vector_size(16), aligned(4), may_alias));
typedef int reg_index __attribute__((vector_size(16)));
enum { W = 4, REG = 4 };

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
// 2 entries again and again: one load that broadcasts.
INLINE vec repeat_2(const entry* p) {
#ifdef __SSE3__
  return (vec)_mm_set1_pd(pair(p));
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
  reg v = {};
  memcpy(&v, p, COUNT * sizeof(float));
  return v;
}
template <int COUNT> INLINE void put(float* p, reg v) {
  if constexpr (COUNT >= REG) { *(reg*)p = v; return; }
  memcpy((void*)p, &v, COUNT * sizeof(float));
}

// The transpose of 4 registers of 4 entries.
INLINE void square(reg& r0, reg& r1, reg& r2, reg& r3) {
  const reg t0 = SHUFFLE(r0, r2, 0, 4, 1, 5);
  const reg t1 = SHUFFLE(r0, r2, 2, 6, 3, 7);
  const reg t2 = SHUFFLE(r1, r3, 0, 4, 1, 5);
  const reg t3 = SHUFFLE(r1, r3, 2, 6, 3, 7);
  const reg t4 = SHUFFLE(t0, t2, 0, 4, 1, 5);
  const reg t5 = SHUFFLE(t0, t2, 2, 6, 3, 7);
  const reg t6 = SHUFFLE(t1, t3, 0, 4, 1, 5);
  const reg t7 = SHUFFLE(t1, t3, 2, 6, 3, 7);
  r0 = t4;
  r1 = t5;
  r2 = t6;
  r3 = t7;
}
// target[to[i] + j] = source[since[j] + i] for i < COLUMNS, j < ROWS; zeros for other j
// where the target's vectors are PADDED.
template <int COLUMNS, int ROWS, bool PADDED>
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  enum { N = 4 };
  if constexpr (COLUMNS > 0 && (PADDED || ROWS > 0)) {
    reg r0 = {}, r1 = {}, r2 = {}, r3 = {};
    if constexpr (ROWS > 0) r0 = part<(COLUMNS - 0) * 1>((const real*)(source + since[0] + 0));
    if constexpr (ROWS > 1) r1 = part<(COLUMNS - 0) * 1>((const real*)(source + since[1] + 0));
    if constexpr (ROWS > 2) r2 = part<(COLUMNS - 0) * 1>((const real*)(source + since[2] + 0));
    if constexpr (ROWS > 3) r3 = part<(COLUMNS - 0) * 1>((const real*)(source + since[3] + 0));
    square(r0, r1, r2, r3);
    if constexpr (COLUMNS > 0) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[0] + 0), r0);
    if constexpr (COLUMNS > 1) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[1] + 0), r1);
    if constexpr (COLUMNS > 2) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[2] + 0), r2);
    if constexpr (COLUMNS > 3) put<(PADDED ? N : ROWS - 0) * 1>((real*)(target + to[3] + 0), r3);
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
