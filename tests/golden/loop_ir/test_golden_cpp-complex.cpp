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

template <typename T> struct complex_of {
  T re, im;
  __attribute__((always_inline)) complex_of& operator+=(const complex_of& o) {
    re += o.re, im += o.im;
    return *this;
  }
};
template <typename T> INLINE complex_of<T> operator+(complex_of<T> a, complex_of<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <typename T> INLINE complex_of<T> operator*(complex_of<T> a, complex_of<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <typename T> INLINE complex_of<T> conj(complex_of<T> a) { return {a.re, -a.im}; }
typedef complex_of<float> entry;
typedef complex_of<reg> vec;
// Real and imaginary parts alternate in memory and are vectors of their own in registers.
INLINE vec load(const entry* p) {
  const reg a = *(const reg*)p, b = *(const reg*)((const float*)p + W);
  return {SHUFFLE(a, b, 0, 2, 4, 6), SHUFFLE(a, b, 1, 3, 5, 7)};
}
INLINE void store(entry* p, vec v) {
  *(reg*)p = SHUFFLE(v.re, v.im, 0, 4, 1, 5);
  *(reg*)((float*)p + W) = SHUFFLE(v.re, v.im, 2, 6, 3, 7);
}
INLINE vec splat(const entry* p) { return {p->re - reg{}, p->im - reg{}}; }
INLINE entry scalar(const entry* p) { return *p; }
INLINE void store(entry* p, entry v) { *p = v; }
INLINE entry sum(vec v) {
  entry z = {0, 0};
  for (int j = 0; j < W; j++) z += entry{v.re[j], v.im[j]};
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

// The transpose of 2 registers of 2 entries.
INLINE void square(reg& r0, reg& r1) {
  const reg t0 = SHUFFLE(r0, r1, 0, 1, 4, 5);
  const reg t1 = SHUFFLE(r0, r1, 2, 3, 6, 7);
  r0 = t0;
  r1 = t1;
}
// target[to[i] + j] = source[since[j] + i] for i < COLUMNS, j < ROWS; zeros for other j
// where the target's vectors are PADDED.
template <int COLUMNS, int ROWS, bool PADDED>
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  enum { N = 2 };
  if constexpr (COLUMNS > 0 && (PADDED || ROWS > 0)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 0) r0 = part<(COLUMNS - 0) * 2>((const real*)(source + since[0] + 0));
    if constexpr (ROWS > 1) r1 = part<(COLUMNS - 0) * 2>((const real*)(source + since[1] + 0));
    square(r0, r1);
    if constexpr (COLUMNS > 0) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[0] + 0), r0);
    if constexpr (COLUMNS > 1) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[1] + 0), r1);
  }
  if constexpr (COLUMNS > 0 && (PADDED || ROWS > 2)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 2) r0 = part<(COLUMNS - 0) * 2>((const real*)(source + since[2] + 0));
    if constexpr (ROWS > 3) r1 = part<(COLUMNS - 0) * 2>((const real*)(source + since[3] + 0));
    square(r0, r1);
    if constexpr (COLUMNS > 0) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[0] + 2), r0);
    if constexpr (COLUMNS > 1) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[1] + 2), r1);
  }
  if constexpr (COLUMNS > 2 && (PADDED || ROWS > 0)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 0) r0 = part<(COLUMNS - 2) * 2>((const real*)(source + since[0] + 2));
    if constexpr (ROWS > 1) r1 = part<(COLUMNS - 2) * 2>((const real*)(source + since[1] + 2));
    square(r0, r1);
    if constexpr (COLUMNS > 2) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[2] + 0), r0);
    if constexpr (COLUMNS > 3) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[3] + 0), r1);
  }
  if constexpr (COLUMNS > 2 && (PADDED || ROWS > 2)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 2) r0 = part<(COLUMNS - 2) * 2>((const real*)(source + since[2] + 2));
    if constexpr (ROWS > 3) r1 = part<(COLUMNS - 2) * 2>((const real*)(source + since[3] + 2));
    square(r0, r1);
    if constexpr (COLUMNS > 2) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[2] + 2), r0);
    if constexpr (COLUMNS > 3) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[3] + 2), r1);
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

// n0 to lanes e0
STEP forward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n0_l + i0 * 4, n0 + i0 * 3);
  }
}

// t0 = n0 x n1, sum e2
STEP forward_before1_t0(const entry* __restrict n1, const entry* __restrict n0_l, entry* __restrict t0) {
  { const entry *a = n0_l; const entry *b = n1; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// x0 to lanes b
STEP forward_samples0_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 3, 6, 9};
    transpose<3, 4, false>(x0_l, to, x0, since); }
}

// t1 = x0 x t0, sum e0
STEP forward_samples1_t1(const entry* __restrict t0, const entry* __restrict x0_l, entry* __restrict t1) {
  { const entry *a = x0_l; const entry *b = t0; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 4); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 6); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// y leaves
STEP forward_samples2_out_y(entry* __restrict out_y, const entry* __restrict t1) {
  { static const int to[] = {0, 2, 4, 6}; static const int since[] = {0, 4};
    transpose<4, 2, false>(out_y, to, t1, since); }
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
  forward_before1_t0(f.n1, f.shared + 0, f.shared + 8);
}

STEP forward_samples(const forward_frame& f) {
  forward_samples0_x0_l(f.x0, f.thread + 0);
  forward_samples1_t1(f.shared + 8, f.thread + 0, f.thread + 12);
  forward_samples2_out_y(f.out_y, f.thread + 12);
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
  entry* call = room.call.get(20 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 20 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = room.own[me].get(44);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 0;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 0 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    for (long turn = start; turn < end; turn++) {
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.x0 = whole.x0 + (size_t)block * 12;
      f.out_y = whole.out_y + (size_t)block * 8;
      const size_t valid = batch - block * 4;
      if (valid < 4) {
        entry* room = own + ROOM;
        memcpy((void*)(room + 0), f.x0, valid * sizeof(entry) * 3);
        memset((void*)(room + 0 + valid * 3), 0, (4 - valid) * sizeof(entry) * 3);
        f.x0 = room + 0;
        entry* out_out_y = f.out_y;
        f.out_y = room + 12;
        forward_samples(f);
        memcpy((void*)out_out_y, room + 12, valid * sizeof(entry) * 2);
        continue;
      }
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
  const long blocks = (batch + 3) / 4;
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

template <typename T> struct complex_of {
  T re, im;
  __attribute__((always_inline)) complex_of& operator+=(const complex_of& o) {
    re += o.re, im += o.im;
    return *this;
  }
};
template <typename T> INLINE complex_of<T> operator+(complex_of<T> a, complex_of<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <typename T> INLINE complex_of<T> operator*(complex_of<T> a, complex_of<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <typename T> INLINE complex_of<T> conj(complex_of<T> a) { return {a.re, -a.im}; }
typedef complex_of<float> entry;
typedef complex_of<reg> vec;
// Real and imaginary parts alternate in memory and are vectors of their own in registers.
INLINE vec load(const entry* p) {
  const reg a = *(const reg*)p, b = *(const reg*)((const float*)p + W);
  return {SHUFFLE(a, b, 0, 2, 4, 6), SHUFFLE(a, b, 1, 3, 5, 7)};
}
INLINE void store(entry* p, vec v) {
  *(reg*)p = SHUFFLE(v.re, v.im, 0, 4, 1, 5);
  *(reg*)((float*)p + W) = SHUFFLE(v.re, v.im, 2, 6, 3, 7);
}
INLINE vec splat(const entry* p) { return {p->re - reg{}, p->im - reg{}}; }
INLINE entry scalar(const entry* p) { return *p; }
INLINE void store(entry* p, entry v) { *p = v; }
INLINE entry sum(vec v) {
  entry z = {0, 0};
  for (int j = 0; j < W; j++) z += entry{v.re[j], v.im[j]};
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

// The transpose of 2 registers of 2 entries.
INLINE void square(reg& r0, reg& r1) {
  const reg t0 = SHUFFLE(r0, r1, 0, 1, 4, 5);
  const reg t1 = SHUFFLE(r0, r1, 2, 3, 6, 7);
  r0 = t0;
  r1 = t1;
}
// target[to[i] + j] = source[since[j] + i] for i < COLUMNS, j < ROWS; zeros for other j
// where the target's vectors are PADDED.
template <int COLUMNS, int ROWS, bool PADDED>
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  enum { N = 2 };
  if constexpr (COLUMNS > 0 && (PADDED || ROWS > 0)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 0) r0 = part<(COLUMNS - 0) * 2>((const real*)(source + since[0] + 0));
    if constexpr (ROWS > 1) r1 = part<(COLUMNS - 0) * 2>((const real*)(source + since[1] + 0));
    square(r0, r1);
    if constexpr (COLUMNS > 0) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[0] + 0), r0);
    if constexpr (COLUMNS > 1) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[1] + 0), r1);
  }
  if constexpr (COLUMNS > 0 && (PADDED || ROWS > 2)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 2) r0 = part<(COLUMNS - 0) * 2>((const real*)(source + since[2] + 0));
    if constexpr (ROWS > 3) r1 = part<(COLUMNS - 0) * 2>((const real*)(source + since[3] + 0));
    square(r0, r1);
    if constexpr (COLUMNS > 0) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[0] + 2), r0);
    if constexpr (COLUMNS > 1) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[1] + 2), r1);
  }
  if constexpr (COLUMNS > 2 && (PADDED || ROWS > 0)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 0) r0 = part<(COLUMNS - 2) * 2>((const real*)(source + since[0] + 2));
    if constexpr (ROWS > 1) r1 = part<(COLUMNS - 2) * 2>((const real*)(source + since[1] + 2));
    square(r0, r1);
    if constexpr (COLUMNS > 2) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[2] + 0), r0);
    if constexpr (COLUMNS > 3) put<(PADDED ? N : ROWS - 0) * 2>((real*)(target + to[3] + 0), r1);
  }
  if constexpr (COLUMNS > 2 && (PADDED || ROWS > 2)) {
    reg r0 = {}, r1 = {};
    if constexpr (ROWS > 2) r0 = part<(COLUMNS - 2) * 2>((const real*)(source + since[2] + 2));
    if constexpr (ROWS > 3) r1 = part<(COLUMNS - 2) * 2>((const real*)(source + since[3] + 2));
    square(r0, r1);
    if constexpr (COLUMNS > 2) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[2] + 2), r0);
    if constexpr (COLUMNS > 3) put<(PADDED ? N : ROWS - 2) * 2>((real*)(target + to[3] + 2), r1);
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

// n0 to lanes e0
STEP backward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n0_l + i0 * 4, n0 + i0 * 3);
  }
}

// t0 = n0 x n1, sum e2
STEP backward_before1_t0(const entry* __restrict n1, const entry* __restrict n0_l, entry* __restrict t0) {
  { const entry *a = n0_l; const entry *b = n1; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// g to lanes b
STEP backward_samples0_g_l(const entry* __restrict g, entry* __restrict g_l) {
  { static const int to[] = {0, 4}; static const int since[] = {0, 2, 4, 6};
    transpose<2, 4, false>(g_l, to, g, since); }
}

// x0 to lanes b
STEP backward_samples1_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 3, 6, 9};
    transpose<3, 4, false>(x0_l, to, x0, since); }
}

// d_t0 = g x x0, sum b
STEP backward_samples2_d_t0(entry* __restrict d_t0_p, const entry* __restrict g_l, const entry* __restrict x0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    for (int i1 = 0; i1 < 3; i1++) {
      { const entry *a = g_l + i0 * 4; const entry *b = x0_l + i1 * 4; entry *c = d_t0_p + i0 * 4 + i1 * 8;
        vec y0_0; { const vec x0 = load(a + 0); { const vec g = conj(load(b + 0)); y0_0 = g * x0; } }
        store(c + 0, y0_0 + load(c + 0)); }
    }
  }
}

// d_x0 = g x t0, sum e1
STEP backward_samples3_d_x0(const entry* __restrict t0, const entry* __restrict g_l, entry* __restrict d_x0) {
  { const entry *a = g_l; const entry *b = t0; entry *c = d_x0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = conj(splat(b + 0)); y0_0 = g * x0; } { const vec g = conj(splat(b + 1)); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = conj(splat(b + 4)); y0_0 += g * x0; } { const vec g = conj(splat(b + 5)); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
  { const entry *a = g_l; const entry *b = t0; entry *c = d_x0;
    READ_ANEW(a, b);
    vec y0_0; { const vec x0 = load(a + 0); { const vec g = conj(splat(b + 2)); y0_0 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = conj(splat(b + 6)); y0_0 += g * x0; } }
    store(c + 8, y0_0); }
}

// d_x0 leaves
STEP backward_samples4_out_d_x0(entry* __restrict out_d_x0, const entry* __restrict d_x0) {
  { static const int to[] = {0, 3, 6, 9}; static const int since[] = {0, 4, 8};
    transpose<4, 3, false>(out_d_x0, to, d_x0, since); }
}

// d_t0 summed up
STEP backward_after0_d_t0_s(entry* const* partials, int team, size_t at_d_t0_p, entry* __restrict d_t0) {
  memset((void*)(d_t0), 0, 6 * sizeof(entry));
  for (int i0 = 0; i0 < 2; i0++) {
    for (int i1 = 0; i1 < 3; i1++) {
      {
        const size_t at = at_d_t0_p + i0 * 4 + i1 * 8;
        vec v = load(partials[0] + at);
        for (int t = 1; t < team; t++) v += load(partials[t] + at);
        *(d_t0 + i0 * 3 + i1 * 1) += sum(v);
      }
    }
  }
}

// d_n1 = d_t0 x n0, sum e0
STEP backward_after1_d_n1(const entry* __restrict n0, entry* __restrict out_d_n1, const entry* __restrict d_t0) {
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = n0 + i0 * 3; const entry *b = d_t0; entry *c = out_d_n1 + i0 * 1;
      READ_ANEW(a, b);
      entry y0_0, y0_1; { const entry x0 = conj(scalar(a + 0)); { const entry g = scalar(b + 0); y0_0 = g * x0; } { const entry g = scalar(b + 3); y0_1 = g * x0; } }
      { const entry x0 = conj(scalar(a + 1)); { const entry g = scalar(b + 1); y0_0 += g * x0; } { const entry g = scalar(b + 4); y0_1 += g * x0; } }
      { const entry x0 = conj(scalar(a + 2)); { const entry g = scalar(b + 2); y0_0 += g * x0; } { const entry g = scalar(b + 5); y0_1 += g * x0; } }
      store(c + 0, y0_0); store(c + 2, y0_1); }
  }
}

// d_t0 to lanes e0
STEP backward_after2_d_t0_l(const entry* __restrict d_t0, entry* __restrict d_t0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(d_t0_l + i0 * 4, d_t0 + i0 * 3);
  }
}

// d_n0 = d_t0 x n1, sum e1
STEP backward_after3_d_n0(const entry* __restrict n1, const entry* __restrict d_t0_l, entry* __restrict d_n0) {
  { const entry *a = d_t0_l; const entry *b = n1; entry *c = d_n0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = conj(splat(b + 0)); y0_0 = g * x0; } { const vec g = conj(splat(b + 1)); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = conj(splat(b + 2)); y0_0 += g * x0; } { const vec g = conj(splat(b + 3)); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_n0 leaves
STEP backward_after4_out_d_n0(entry* __restrict out_d_n0, const entry* __restrict d_n0) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, false>(out_d_n0 + i0 * 3, d_n0 + i0 * 4);
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
  backward_before1_t0(f.n1, f.shared + 0, f.shared + 8);
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_g_l(f.g, f.thread + 0);
  backward_samples1_x0_l(f.x0, f.thread + 8);
  backward_samples2_d_t0(f.partial + 0, f.thread + 0, f.thread + 8);
  backward_samples3_d_x0(f.shared + 8, f.thread + 0, f.thread + 8);
  backward_samples4_out_d_x0(f.out_d_x0, f.thread + 8);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_t0_s(f.partials, f.team, 0, f.shared + 16);
  backward_after1_d_n1(f.n0, f.out_d_n1, f.shared + 16);
  backward_after2_d_t0_l(f.shared + 16, f.shared + 24);
  backward_after3_d_n0(f.n1, f.shared + 24, f.shared + 32);
  backward_after4_out_d_n0(f.out_d_n0, f.shared + 32);
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
  entry* call = room.call.get(44 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 68 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = room.own[me].get(104);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 48;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 24 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    long run = 16;
    while (run * run < end - start) run *= 2;
    for (long turn = start; turn < end; turn++) {
      if (turn > start && (turn - start) % run == 0) {
        // What a run of blocks added up to is carried to sums of its own: short sums keep digits.
        entry* carried = own + 24;
        if (turn - start == run) memset((void*)carried, 0, 24 * sizeof(entry));
        for (size_t at = 0; at < 24; at++) carried[at] += own[at];
        memset((void*)own, 0, 24 * sizeof(entry));
      }
      const long block = blocks - 1 - turn, next = turn + 1 < end ? block - 1 : block;
      f.g = whole.g + (size_t)block * 8;
      f.x0 = whole.x0 + (size_t)block * 12;
      f.out_d_x0 = whole.out_d_x0 + (size_t)block * 12;
      const size_t valid = batch - block * 4;
      if (valid < 4) {
        entry* room = own + ROOM;
        memcpy((void*)(room + 0), f.g, valid * sizeof(entry) * 2);
        memset((void*)(room + 0 + valid * 2), 0, (4 - valid) * sizeof(entry) * 2);
        f.g = room + 0;
        memcpy((void*)(room + 8), f.x0, valid * sizeof(entry) * 3);
        memset((void*)(room + 8 + valid * 3), 0, (4 - valid) * sizeof(entry) * 3);
        f.x0 = room + 8;
        entry* out_out_d_x0 = f.out_d_x0;
        f.out_d_x0 = room + 20;
        backward_samples(f);
        memcpy((void*)out_out_d_x0, room + 20, valid * sizeof(entry) * 3);
        // Of a sample that is missing, 0 x inf must be in no sum.
        for (size_t at = 0; at < 24; at += W)
          for (size_t j = valid; j < W; j++) f.partial[at + j] = entry{};
        continue;
      }
      backward_samples(f);
    }
    if (end - start > run)
      for (size_t at = 0; at < 24; at++) own[at] += own[24 + at];
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
  const long blocks = (batch + 3) / 4;
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
