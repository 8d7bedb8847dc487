#include <cstdlib>
#include <cstring>
#include <omp.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define STEP static __attribute__((noinline)) void
#define INLINE static inline __attribute__((always_inline))
// Keeps a compiler from holding what lies at these places in registers.
#define READ_ANEW(a, b) asm volatile("" : "+r"(a), "+r"(b))

typedef float entry;
typedef float vec __attribute__((vector_size(16), aligned(4), may_alias));
enum { W = 4 };
INLINE vec load(const entry* p) { return *(const vec*)p; }
INLINE void store(entry* p, vec v) { *(vec*)p = v; }
INLINE vec splat(const entry* p) { return *p - vec{}; }
INLINE entry scalar(const entry* p) { return *p; }
INLINE void store(entry* p, entry v) { *p = v; }
INLINE entry sum(vec v) {
  entry z = 0;
  for (int j = 0; j < W; j++) z += v[j];
  return z;
}

// target[to[i] + j] = source[since[j] + i]
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  for (int i = 0; i < W; i++)
    for (int j = 0; j < W; j++) target[to[i] + j] = source[since[j] + i];
}

// target[j] = source[offsets[j]] for j < count, then zeros up to padding.
INLINE void gather(entry* target, const entry* source, const int* offsets, int count, int padding) {
  for (int j = 0; j < count; j++) target[j] = source[offsets[j]];
  if (padding > count) memset(target + count, 0, (padding - count) * sizeof(entry));
}

// A thread keeps its workspace: fresh pages at each call would cost more than a step.
struct Workspace {
  char* start = nullptr;
  size_t size = 0;
  ~Workspace() { free(start); }
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
static thread_local Workspace call_workspace, own_workspace;

// x0 to lanes b
STEP forward_samples0_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 16, 4, 20}; static const int since[] = {0, 8, 16, 24};
      transpose(x0_l + i0 * 8, to, x0 + i0 * 4, since); }
  }
}

// t0 = x0 x n0, sum e0 e1
STEP forward_samples1_t0(const entry* __restrict n0, const entry* __restrict x0_l, entry* __restrict t0) {
  { const entry *a = x0_l; const entry *b = n0; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 16); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 1); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 2); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 3); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 4), x1 = load(a + 20); { const vec g = splat(b + 4); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 6); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 7); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 24); { const vec g = splat(b + 8); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 9); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 10); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 11); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 12), x1 = load(a + 28); { const vec g = splat(b + 12); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 13); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 14); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 15); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 16, y0_2); store(c + 20, y0_3);
    store(c + 8, y1_0); store(c + 12, y1_1); store(c + 24, y1_2); store(c + 28, y1_3); }
}

// t1 = t0 x n1, sum e2 e6
STEP forward_samples2_t1(const entry* __restrict n1, const entry* __restrict t0, entry* __restrict t1) {
  { const entry *a = t0; const entry *b = n1; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 16); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 1); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 2); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 3); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 4), x1 = load(a + 20); { const vec g = splat(b + 8); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 9); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 10); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 11); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 24); { const vec g = splat(b + 4); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 6); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 7); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 12), x1 = load(a + 28); { const vec g = splat(b + 12); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 13); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 14); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 15); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3);
    store(c + 16, y1_0); store(c + 20, y1_1); store(c + 24, y1_2); store(c + 28, y1_3); }
}

// y leaves
STEP forward_samples3_out_y(entry* __restrict out_y, const entry* __restrict t1) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 8, 16, 24}; static const int since[] = {0, 4, 8, 12};
      transpose(out_y + i0 * 4, to, t1 + i0 * 16, since); }
  }
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
}

STEP forward_samples(const forward_frame& f) {
  forward_samples0_x0_l(f.x0, f.thread + 0);
  forward_samples1_t0(f.n0, f.thread + 0, f.thread + 32);
  forward_samples2_t1(f.n1, f.thread + 32, f.thread + 0);
  forward_samples3_out_y(f.out_y, f.thread + 0);
}

STEP forward_after(const forward_frame& f) {
}

extern "C" int forward(void** arguments, long batch, int threads) {
  forward_frame whole = {};
  whole.x0 = (entry*)arguments[0];
  whole.n0 = (entry*)arguments[1];
  whole.n1 = (entry*)arguments[2];
  whole.out_y = (entry*)arguments[3];
  const long blocks = (batch + 3) / 4;
  if (omp_in_parallel()) threads = 1;
  if (threads > blocks) threads = blocks > 0 ? (int)blocks : 1;
  const size_t list = (threads * sizeof(entry*) + sizeof(entry) - 1) / sizeof(entry);
  whole.shared = call_workspace.get(4 + list);
  if (!whole.shared) return 1;
  whole.partials = (entry**)(whole.shared + 4);
  int team = 1;
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 64 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = own_workspace.get(132);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 0;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 0 * sizeof(entry));
    #pragma omp for schedule(static)
    for (long turn = 0; turn < blocks; turn++) {
      if (failed) continue;
      const long block = turn;
      f.x0 = whole.x0 + (size_t)block * 32;
      f.out_y = whole.out_y + (size_t)block * 32;
      const size_t valid = batch - block * 4;
      if (valid < 4) {
        entry* room = own + ROOM;
        memcpy((void*)(room + 0), f.x0, valid * sizeof(entry) * 8);
        memset((void*)(room + 0 + valid * 8), 0, (4 - valid) * sizeof(entry) * 8);
        f.x0 = room + 0;
        entry* out_out_y = f.out_y;
        f.out_y = room + 32;
        forward_samples(f);
        memcpy((void*)out_out_y, room + 32, valid * sizeof(entry) * 8);
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

#include <cstdlib>
#include <cstring>
#include <omp.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define STEP static __attribute__((noinline)) void
#define INLINE static inline __attribute__((always_inline))
// Keeps a compiler from holding what lies at these places in registers.
#define READ_ANEW(a, b) asm volatile("" : "+r"(a), "+r"(b))

typedef float entry;
typedef float vec __attribute__((vector_size(16), aligned(4), may_alias));
enum { W = 4 };
INLINE vec load(const entry* p) { return *(const vec*)p; }
INLINE void store(entry* p, vec v) { *(vec*)p = v; }
INLINE vec splat(const entry* p) { return *p - vec{}; }
INLINE entry scalar(const entry* p) { return *p; }
INLINE void store(entry* p, entry v) { *p = v; }
INLINE entry sum(vec v) {
  entry z = 0;
  for (int j = 0; j < W; j++) z += v[j];
  return z;
}

// target[to[i] + j] = source[since[j] + i]
STEP transpose(entry* target, const int* to, const entry* source, const int* since) {
  for (int i = 0; i < W; i++)
    for (int j = 0; j < W; j++) target[to[i] + j] = source[since[j] + i];
}

// target[j] = source[offsets[j]] for j < count, then zeros up to padding.
INLINE void gather(entry* target, const entry* source, const int* offsets, int count, int padding) {
  for (int j = 0; j < count; j++) target[j] = source[offsets[j]];
  if (padding > count) memset(target + count, 0, (padding - count) * sizeof(entry));
}

// A thread keeps its workspace: fresh pages at each call would cost more than a step.
struct Workspace {
  char* start = nullptr;
  size_t size = 0;
  ~Workspace() { free(start); }
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
static thread_local Workspace call_workspace, own_workspace;

// x0 to lanes b
STEP backward_samples0_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 16, 4, 20}; static const int since[] = {0, 8, 16, 24};
      transpose(x0_l + i0 * 8, to, x0 + i0 * 4, since); }
  }
}

// t0 = x0 x n0, sum e0 e1
STEP backward_samples1_t0(const entry* __restrict n0, const entry* __restrict x0_l, entry* __restrict t0) {
  { const entry *a = x0_l; const entry *b = n0; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 16); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 2); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 1); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 3); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 4), x1 = load(a + 20); { const vec g = splat(b + 4); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 6); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 5); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 7); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 24); { const vec g = splat(b + 8); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 10); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 9); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 11); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 12), x1 = load(a + 28); { const vec g = splat(b + 12); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 14); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 13); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 15); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3);
    store(c + 16, y1_0); store(c + 20, y1_1); store(c + 24, y1_2); store(c + 28, y1_3); }
}

// g to lanes b
STEP backward_samples2_g_l(const entry* __restrict g, entry* __restrict g_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 8, 16, 24}; static const int since[] = {0, 8, 16, 24};
      transpose(g_l + i0 * 4, to, g + i0 * 4, since); }
  }
}

// d_n1 = g x t0, sum b e3
STEP backward_samples3_d_n1(entry* __restrict d_n1_p, const entry* __restrict t0, const entry* __restrict g_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = g_l + i0 * 16; const entry *b = t0; entry *c = d_n1_p + i0 * 8;
      READ_ANEW(a, b);
      vec y0_0 = load(c + 0), y0_1 = load(c + 16), y0_2 = load(c + 32), y0_3 = load(c + 48), y1_0 = load(c + 4), y1_1 = load(c + 20), y1_2 = load(c + 36), y1_3 = load(c + 52);
      { const vec x0 = load(a + 0), x1 = load(a + 8); { const vec g = load(b + 0); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = load(b + 16); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = load(b + 8); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = load(b + 24); y0_3 += g * x0; y1_3 += g * x1; } }
      { const vec x0 = load(a + 4), x1 = load(a + 12); { const vec g = load(b + 4); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = load(b + 20); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = load(b + 12); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = load(b + 28); y0_3 += g * x0; y1_3 += g * x1; } }
      store(c + 0, y0_0); store(c + 16, y0_1); store(c + 32, y0_2); store(c + 48, y0_3);
      store(c + 4, y1_0); store(c + 20, y1_1); store(c + 36, y1_2); store(c + 52, y1_3); }
  }
}

// d_t0 = g x n1, sum e4 e5
STEP backward_samples4_d_t0(const entry* __restrict n1, const entry* __restrict g_l, entry* __restrict d_t0) {
  { const entry *a = g_l; const entry *b = n1; entry *c = d_t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 4); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 8); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 12); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 12); { const vec g = splat(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 9); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 13); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 16), x1 = load(a + 20); { const vec g = splat(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 6); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 10); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 14); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 24), x1 = load(a + 28); { const vec g = splat(b + 3); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 7); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 11); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 15); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3);
    store(c + 16, y1_0); store(c + 20, y1_1); store(c + 24, y1_2); store(c + 28, y1_3); }
}

// d_n0 = d_t0 x x0, sum b e2
STEP backward_samples5_d_n0(entry* __restrict d_n0_p, const entry* __restrict x0_l, const entry* __restrict d_t0) {
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = d_t0 + i0 * 16; const entry *b = x0_l; entry *c = d_n0_p + i0 * 8;
      READ_ANEW(a, b);
      vec y0_0 = load(c + 0), y0_1 = load(c + 16), y0_2 = load(c + 32), y0_3 = load(c + 48), y1_0 = load(c + 4), y1_1 = load(c + 20), y1_2 = load(c + 36), y1_3 = load(c + 52);
      { const vec x0 = load(a + 0), x1 = load(a + 8); { const vec g = load(b + 0); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = load(b + 4); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = load(b + 8); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = load(b + 12); y0_3 += g * x0; y1_3 += g * x1; } }
      { const vec x0 = load(a + 4), x1 = load(a + 12); { const vec g = load(b + 16); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = load(b + 20); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = load(b + 24); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = load(b + 28); y0_3 += g * x0; y1_3 += g * x1; } }
      store(c + 0, y0_0); store(c + 16, y0_1); store(c + 32, y0_2); store(c + 48, y0_3);
      store(c + 4, y1_0); store(c + 20, y1_1); store(c + 36, y1_2); store(c + 52, y1_3); }
  }
}

// d_x0 = d_t0 x n0, sum e3 e6
STEP backward_samples6_d_x0(const entry* __restrict n0, const entry* __restrict d_t0, entry* __restrict d_x0) {
  { const entry *a = d_t0; const entry *b = n0; entry *c = d_x0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 4); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 8); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 12); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 12); { const vec g = splat(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 9); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 13); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 16), x1 = load(a + 20); { const vec g = splat(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 6); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 10); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 14); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 24), x1 = load(a + 28); { const vec g = splat(b + 3); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 7); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 11); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 15); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 8, y0_1); store(c + 16, y0_2); store(c + 24, y0_3);
    store(c + 4, y1_0); store(c + 12, y1_1); store(c + 20, y1_2); store(c + 28, y1_3); }
}

// d_x0 leaves
STEP backward_samples7_out_d_x0(entry* __restrict out_d_x0, const entry* __restrict d_x0) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 8, 16, 24}; static const int since[] = {0, 4, 8, 12};
      transpose(out_d_x0 + i0 * 4, to, d_x0 + i0 * 16, since); }
  }
}

// d_n1 summed up
STEP backward_after0_d_n1_s(entry* __restrict out_d_n1, entry* const* partials, int team, size_t at_d_n1_p) {
  memset((void*)(out_d_n1), 0, 16 * sizeof(entry));
  for (int i0 = 0; i0 < 16; i0++) {
    {
      const size_t at = at_d_n1_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      *(out_d_n1 + i0 * 1) += sum(v);
    }
  }
}

// d_n0 summed up
STEP backward_after1_d_n0_s(entry* __restrict out_d_n0, entry* const* partials, int team, size_t at_d_n0_p) {
  memset((void*)(out_d_n0), 0, 16 * sizeof(entry));
  for (int i0 = 0; i0 < 16; i0++) {
    {
      const size_t at = at_d_n0_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      *(out_d_n0 + i0 * 1) += sum(v);
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
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_x0_l(f.x0, f.thread + 0);
  backward_samples1_t0(f.n0, f.thread + 0, f.thread + 32);
  backward_samples2_g_l(f.g, f.thread + 64);
  backward_samples3_d_n1(f.partial + 0, f.thread + 32, f.thread + 64);
  backward_samples4_d_t0(f.n1, f.thread + 64, f.thread + 32);
  backward_samples5_d_n0(f.partial + 64, f.thread + 0, f.thread + 32);
  backward_samples6_d_x0(f.n0, f.thread + 32, f.thread + 0);
  backward_samples7_out_d_x0(f.out_d_x0, f.thread + 0);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_n1_s(f.out_d_n1, f.partials, f.team, 0);
  backward_after1_d_n0_s(f.out_d_n0, f.partials, f.team, 64);
}

extern "C" int backward(void** arguments, long batch, int threads) {
  backward_frame whole = {};
  whole.g = (entry*)arguments[0];
  whole.x0 = (entry*)arguments[1];
  whole.n0 = (entry*)arguments[2];
  whole.n1 = (entry*)arguments[3];
  whole.out_d_x0 = (entry*)arguments[4];
  whole.out_d_n0 = (entry*)arguments[5];
  whole.out_d_n1 = (entry*)arguments[6];
  const long blocks = (batch + 3) / 4;
  if (omp_in_parallel()) threads = 1;
  if (threads > blocks) threads = blocks > 0 ? (int)blocks : 1;
  const size_t list = (threads * sizeof(entry*) + sizeof(entry) - 1) / sizeof(entry);
  whole.shared = call_workspace.get(4 + list);
  if (!whole.shared) return 1;
  whole.partials = (entry**)(whole.shared + 4);
  int team = 1;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 224 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = own_workspace.get(324);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 128;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 128 * sizeof(entry));
    #pragma omp for schedule(static)
    for (long turn = 0; turn < blocks; turn++) {
      if (failed) continue;
      const long block = blocks - 1 - turn;
      f.g = whole.g + (size_t)block * 32;
      f.x0 = whole.x0 + (size_t)block * 32;
      f.out_d_x0 = whole.out_d_x0 + (size_t)block * 32;
      const size_t valid = batch - block * 4;
      if (valid < 4) {
        entry* room = own + ROOM;
        memcpy((void*)(room + 0), f.g, valid * sizeof(entry) * 8);
        memset((void*)(room + 0 + valid * 8), 0, (4 - valid) * sizeof(entry) * 8);
        f.g = room + 0;
        memcpy((void*)(room + 32), f.x0, valid * sizeof(entry) * 8);
        memset((void*)(room + 32 + valid * 8), 0, (4 - valid) * sizeof(entry) * 8);
        f.x0 = room + 32;
        entry* out_out_d_x0 = f.out_d_x0;
        f.out_d_x0 = room + 64;
        backward_samples(f);
        memcpy((void*)out_out_d_x0, room + 64, valid * sizeof(entry) * 8);
        // Of a sample that is missing, 0 x inf must be in no sum.
        for (size_t at = 0; at < 128; at += W)
          for (size_t j = valid; j < W; j++) f.partial[at + j] = entry{};
        continue;
      }
      backward_samples(f);
    }
  }
  if (failed) return 1;
  whole.team = team;
  backward_after(whole);
  return 0;
}
