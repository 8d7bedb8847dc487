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

// n0 to lanes e6 e2
STEP forward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 4; i0++) {
    { const entry* a = n0 + i0 * 4; entry* c = n0_l + i0 * 4;
      const reg r0 = part<4>((const real*)(a + 0) + 0);
      const reg r1 = part<4>((const real*)(a + 0) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 4, 1, 5);
      const reg r3 = SHUFFLE(r0, r1, 2, 6, 3, 7);
      put<4>((real*)(c + 0) + 0, r2);
      put<4>((real*)(c + 16) + 0, r3);
    }
  }
}

// t0 = x0 x n0, sum e0 e1
STEP forward_samples0_t0(const entry* __restrict x0, const entry* __restrict n0_l, entry* __restrict t0) {
  { const entry *a = x0; const entry *b = n0_l; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = repeat_2(a + 0); { const vec g = load(b + 0); y0_0 = g * x0; } { const vec g = load(b + 16); y0_1 = g * x0; } }
    { const vec x0 = repeat_2(a + 2); { const vec g = load(b + 4); y0_0 += g * x0; } { const vec g = load(b + 20); y0_1 += g * x0; } }
    { const vec x0 = repeat_2(a + 4); { const vec g = load(b + 8); y0_0 += g * x0; } { const vec g = load(b + 24); y0_1 += g * x0; } }
    { const vec x0 = repeat_2(a + 6); { const vec g = load(b + 12); y0_0 += g * x0; } { const vec g = load(b + 28); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// t1 = t0 x n1, sum e6 e2
STEP forward_samples1_t1(const entry* __restrict n1, entry* __restrict out_y, const entry* __restrict t0) {
  { const entry *a = n1; const entry *b = t0; entry *c = out_y;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 4); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 6); y0_1 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 3); y0_0 += g * x0; } { const vec g = splat(b + 7); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

struct forward_frame {
  const entry* x0;
  const entry* n0;
  const entry* n1;
  entry* out_y;
  entry *shared, *thread, *partial;
  entry** partials;
  int team;
};

STEP forward_before(const forward_frame& f) {
  forward_before0_n0_l(f.n0, f.shared + 0);
}

STEP forward_samples(const forward_frame& f) {
  forward_samples0_t0(f.x0, f.shared + 0, f.thread + 0);
  forward_samples1_t1(f.n1, f.out_y, f.thread + 0);
}

STEP forward_after(const forward_frame& f) {
}

static int forward_run(Room& room, void** arguments, long batch, long blocks, int threads) {
  forward_frame whole = {};
  whole.x0 = (entry*)arguments[0];
  whole.n0 = (entry*)arguments[1];
  whole.n1 = (entry*)arguments[2];
  whole.out_y = (entry*)arguments[3];
  // The addresses of the threads' sums stand in front, where a pointer is aligned.
  const size_t lines = (threads * sizeof(entry*) + 64 - 1) / 64;
  entry* call = room.call.get(36 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 8 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = room.own[me].get(12);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 0;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 0 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    for (long turn = start; turn < end; turn++) {
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.x0 = whole.x0 + (size_t)block * 8;
      f.out_y = whole.out_y + (size_t)block * 8;

      forward_samples(f);
    }
  }
  if (failed) return 1;
  whole.team = team;
  forward_after(whole);
  return 0;
}

extern "C" int forward(void** arguments, long batch, int threads) {
  static const bool batched[] = {1, 0, 0, 1};
  for (int k = 0; k < 4; k++)
    if (!arguments[k] && (batch || !batched[k])) return 2;
  const long blocks = (batch + 0) / 1;
  if (omp_in_parallel()) threads = 1;
  if (threads > blocks) threads = blocks > 0 ? (int)blocks : 1;
  Room* room = take_room(threads);
  if (!room) return 1;
  const int status = forward_run(*room, arguments, batch, blocks, threads);
  leave_room(room);
  return status;
}

// Gives back what calls keep; the next call takes memory anew.
extern "C" void forward_release() { drop_rooms(); }

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

// n0 to lanes e6 e2
STEP backward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 4; i0++) {
    { const entry* a = n0 + i0 * 4; entry* c = n0_l + i0 * 4;
      const reg r0 = part<4>((const real*)(a + 0) + 0);
      const reg r1 = part<4>((const real*)(a + 0) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 4, 1, 5);
      const reg r3 = SHUFFLE(r0, r1, 2, 6, 3, 7);
      put<4>((real*)(c + 0) + 0, r2);
      put<4>((real*)(c + 16) + 0, r3);
    }
  }
}

// n1 to lanes e6 e2
STEP backward_before1_n1_l(const entry* __restrict n1, entry* __restrict n1_l) {
  { static const int to[] = {0, 4, 8, 12}; static const int since[] = {0, 4, 8, 12};
    transpose<4, 4, false>(n1_l, to, n1, since); }
}

// n0 to lanes e1 e2
STEP backward_before2_n0_l_l(const entry* __restrict n0, entry* __restrict n0_l_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 8, 16, 24}; static const int since[] = {0, 0, 4, 4};
      transpose<4, 4, false>(n0_l_l + i0 * 4, to, n0 + i0 * 8, since); }
  }
}

// t0 = x0 x n0, sum e0 e1
STEP backward_samples0_t0(const entry* __restrict x0, const entry* __restrict n0_l, entry* __restrict t0) {
  { const entry *a = x0; const entry *b = n0_l; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = repeat_2(a + 0); { const vec g = load(b + 0); y0_0 = g * x0; } { const vec g = load(b + 16); y0_1 = g * x0; } }
    { const vec x0 = repeat_2(a + 2); { const vec g = load(b + 4); y0_0 += g * x0; } { const vec g = load(b + 20); y0_1 += g * x0; } }
    { const vec x0 = repeat_2(a + 4); { const vec g = load(b + 8); y0_0 += g * x0; } { const vec g = load(b + 24); y0_1 += g * x0; } }
    { const vec x0 = repeat_2(a + 6); { const vec g = load(b + 12); y0_0 += g * x0; } { const vec g = load(b + 28); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_n1 = g x t0, sum b e3
STEP backward_samples1_d_n1(const entry* __restrict g, entry* __restrict d_n1_p, const entry* __restrict t0) {
  { const entry *a = g; const entry *b = t0; entry *c = d_n1_p;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } { const vec g = splat(b + 3); y0_3 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 6); y0_2 += g * x0; } { const vec g = splat(b + 7); y0_3 += g * x0; } }
    store(c + 0, y0_0 + load(c + 0)); store(c + 4, y0_1 + load(c + 4)); store(c + 8, y0_2 + load(c + 8)); store(c + 12, y0_3 + load(c + 12)); }
}

// d_t0 = g x n1, sum e4 e5
STEP backward_samples2_d_t0(const entry* __restrict g, const entry* __restrict n1_l, entry* __restrict d_t0) {
  { const entry *a = n1_l; const entry *b = g; entry *c = d_t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 4); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 6); y0_1 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 3); y0_0 += g * x0; } { const vec g = splat(b + 7); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_n0 = d_t0 x x0, sum b e2
STEP backward_samples3_d_n0(const entry* __restrict x0, entry* __restrict d_n0_p, const entry* __restrict d_t0) {
  { const entry *a = d_t0; const entry *b = x0; entry *c = d_n0_p;
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = repeat_2(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = repeat_2(b + 2); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = repeat_2(b + 4); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = repeat_2(b + 6); y0_3 = g * x0; y1_3 = g * x1; } }
    store(c + 0, y0_0 + load(c + 0)); store(c + 8, y0_1 + load(c + 8)); store(c + 16, y0_2 + load(c + 16)); store(c + 24, y0_3 + load(c + 24));
    store(c + 4, y1_0 + load(c + 4)); store(c + 12, y1_1 + load(c + 12)); store(c + 20, y1_2 + load(c + 20)); store(c + 28, y1_3 + load(c + 28)); }
}

// d_x0 = d_t0 x n0, sum e3 e6
STEP backward_samples4_d_x0(entry* __restrict out_d_x0, const entry* __restrict n0_l_l, const entry* __restrict d_t0) {
  { const entry *a = d_t0; const entry *b = n0_l_l; entry *c = out_d_x0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = repeat_2(a + 0); { const vec g = load(b + 0); y0_0 = g * x0; } { const vec g = load(b + 4); y0_1 = g * x0; } }
    { const vec x0 = repeat_2(a + 2); { const vec g = load(b + 8); y0_0 += g * x0; } { const vec g = load(b + 12); y0_1 += g * x0; } }
    { const vec x0 = repeat_2(a + 4); { const vec g = load(b + 16); y0_0 += g * x0; } { const vec g = load(b + 20); y0_1 += g * x0; } }
    { const vec x0 = repeat_2(a + 6); { const vec g = load(b + 24); y0_0 += g * x0; } { const vec g = load(b + 28); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_n1 summed up
STEP backward_after0_d_n1_s(entry* __restrict out_d_n1, entry* const* partials, int team, size_t at_d_n1_p) {
  memset((void*)(out_d_n1), 0, 16 * sizeof(entry));
  for (int i0 = 0; i0 < 4; i0++) {
    {
      const size_t at = at_d_n1_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      v += load(out_d_n1 + i0 * 4);
      store(out_d_n1 + i0 * 4, v);
    }
  }
}

// d_n0 summed up
STEP backward_after1_d_n0_s(entry* __restrict out_d_n0, entry* const* partials, int team, size_t at_d_n0_p) {
  memset((void*)(out_d_n0), 0, 16 * sizeof(entry));
  for (int i0 = 0; i0 < 8; i0++) {
    {
      const size_t at = at_d_n0_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      entry lanes[W];
      store(lanes, v);
      static const int to[] = {0, 0, 1, 1};
      for (int j = 0; j < 4; j++) (out_d_n0 + i0 * 2)[to[j]] += lanes[j];
    }
  }
}

struct backward_frame {
  const entry* g;
  const entry* x0;
  const entry* n0;
  const entry* n1;
  entry* out_d_x0;
  entry* out_d_n0;
  entry* out_d_n1;
  entry *shared, *thread, *partial;
  entry** partials;
  int team;
};

STEP backward_before(const backward_frame& f) {
  backward_before0_n0_l(f.n0, f.shared + 0);
  backward_before1_n1_l(f.n1, f.shared + 32);
  backward_before2_n0_l_l(f.n0, f.shared + 48);
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_t0(f.x0, f.shared + 0, f.thread + 0);
  backward_samples1_d_n1(f.g, f.partial + 0, f.thread + 0);
  backward_samples2_d_t0(f.g, f.shared + 32, f.thread + 0);
  backward_samples3_d_n0(f.x0, f.partial + 16, f.thread + 0);
  backward_samples4_d_x0(f.out_d_x0, f.shared + 48, f.thread + 0);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_n1_s(f.out_d_n1, f.partials, f.team, 0);
  backward_after1_d_n0_s(f.out_d_n0, f.partials, f.team, 16);
}

static int backward_run(Room& room, void** arguments, long batch, long blocks, int threads) {
  backward_frame whole = {};
  whole.g = (entry*)arguments[0];
  whole.x0 = (entry*)arguments[1];
  whole.n0 = (entry*)arguments[2];
  whole.n1 = (entry*)arguments[3];
  whole.out_d_x0 = (entry*)arguments[4];
  whole.out_d_n0 = (entry*)arguments[5];
  whole.out_d_n1 = (entry*)arguments[6];
  // The addresses of the threads' sums stand in front, where a pointer is aligned.
  const size_t lines = (threads * sizeof(entry*) + 64 - 1) / 64;
  entry* call = room.call.get(84 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 104 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = room.own[me].get(108);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 96;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 48 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    long run = 32;
    while (run * run < end - start) run *= 2;
    for (long turn = start; turn < end; turn++) {
      if (turn > start && (turn - start) % run == 0) {
        // What a run of blocks added up to is carried to sums of its own: short sums keep digits.
        entry* carried = own + 48;
        if (turn - start == run) memset((void*)carried, 0, 48 * sizeof(entry));
        for (size_t at = 0; at < 48; at++) carried[at] += own[at];
        memset((void*)own, 0, 48 * sizeof(entry));
      }
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.g = whole.g + (size_t)block * 8;
      f.x0 = whole.x0 + (size_t)block * 8;
      f.out_d_x0 = whole.out_d_x0 + (size_t)block * 8;

      backward_samples(f);
    }
    if (end - start > run)
      for (size_t at = 0; at < 48; at++) own[at] += own[48 + at];
  }
  if (failed) return 1;
  whole.team = team;
  backward_after(whole);
  return 0;
}

extern "C" int backward(void** arguments, long batch, int threads) {
  static const bool batched[] = {1, 1, 0, 0, 1, 0, 0};
  for (int k = 0; k < 7; k++)
    if (!arguments[k] && (batch || !batched[k])) return 2;
  const long blocks = (batch + 0) / 1;
  if (omp_in_parallel()) threads = 1;
  if (threads > blocks) threads = blocks > 0 ? (int)blocks : 1;
  Room* room = take_room(threads);
  if (!room) return 1;
  const int status = backward_run(*room, arguments, batch, blocks, threads);
  leave_room(room);
  return status;
}

// Gives back what calls keep; the next call takes memory anew.
extern "C" void backward_release() { drop_rooms(); }
