
// n0 to lanes e0 e3
STEP forward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry* a = n0 + i0 * 4; entry* c = n0_l + i0 * 8;
      const reg r0 = part<4>((const real*)(a + 0) + 0);
      const reg r1 = part<4>((const real*)(a + 12) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 1, 4, 5);
      const reg r3 = SHUFFLE(r0, r1, 2, 3, 6, 7);
      put<4>((real*)(c + 0) + 0, r2);
      put<4>((real*)(c + 4) + 0, r3);
    }
  }
}

// t0 = n0 x x2, sum e2
STEP forward_before1_t0(const entry* __restrict x2, const entry* __restrict n0_l, entry* __restrict t0) {
  { const entry *a = n0_l; const entry *b = x2; entry *c = t0;
    vec y0_0, y1_0, y2_0; { const vec g0 = splat(b + 0); { const vec x = load(a + 0); y0_0 = g0 * x; } { const vec x = load(a + 8); y1_0 = g0 * x; } { const vec x = load(a + 16); y2_0 = g0 * x; } }
    { const vec g0 = splat(b + 1); { const vec x = load(a + 4); y0_0 += g0 * x; } { const vec x = load(a + 12); y1_0 += g0 * x; } { const vec x = load(a + 20); y2_0 += g0 * x; } }
    store(c + 0, y0_0);
    store(c + 4, y1_0);
    store(c + 8, y2_0); }
}

// x1 to lanes b
STEP forward_samples0_x1_l(const entry* __restrict x1, entry* __restrict x1_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 3, 6, 9};
    transpose<3, 4, false>(x1_l, to, x1, since); }
}

// t1 = x1 x t0, sum e1
STEP forward_samples1_t1(const entry* __restrict t0, const entry* __restrict x1_l, entry* __restrict t1) {
  { const entry *a = x1_l; const entry *b = t0; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } { const vec g = splat(b + 1); y0_2 = g * x0; } { const vec g = splat(b + 3); y0_3 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 6); y0_1 += g * x0; } { const vec g = splat(b + 5); y0_2 += g * x0; } { const vec g = splat(b + 7); y0_3 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 10); y0_1 += g * x0; } { const vec g = splat(b + 9); y0_2 += g * x0; } { const vec g = splat(b + 11); y0_3 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); }
}

// x0 to lanes b
STEP forward_samples2_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  { static const int to[] = {0, 4}; static const int since[] = {0, 2, 4, 6};
    transpose<2, 4, false>(x0_l, to, x0, since); }
}

// t2 = t1 x x0, sum e0
STEP forward_samples3_t2(const entry* __restrict t1, const entry* __restrict x0_l, entry* __restrict t2) {
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = t1 + i0 * 8; const entry *b = x0_l; entry *c = t2 + i0 * 4;
      vec y0_0; { const vec x0 = load(a + 0); { const vec g = load(b + 0); y0_0 = g * x0; } }
      { const vec x0 = load(a + 4); { const vec g = load(b + 4); y0_0 += g * x0; } }
      store(c + 0, y0_0); }
  }
}

// y leaves
STEP forward_samples4_out_y(entry* __restrict out_y, const entry* __restrict t2) {
  { static const int to[] = {0, 2, 4, 6}; static const int since[] = {0, 4};
    transpose<4, 2, false>(out_y, to, t2, since); }
}

struct forward_frame {
  const entry* x0;
  const entry* x1;
  const entry* x2;
  const entry* n0;
  entry* out_y;
  entry *shared, *thread, *partial;
  entry** partials;
  int team;
};

STEP forward_before(const forward_frame& f) {
  forward_before0_n0_l(f.n0, f.shared + 0);
  forward_before1_t0(f.x2, f.shared + 0, f.shared + 24);
}

STEP forward_samples(const forward_frame& f) {
  forward_samples0_x1_l(f.x1, f.thread + 0);
  forward_samples1_t1(f.shared + 24, f.thread + 0, f.thread + 12);
  forward_samples2_x0_l(f.x0, f.thread + 0);
  forward_samples3_t2(f.thread + 12, f.thread + 0, f.thread + 28);
  forward_samples4_out_y(f.out_y, f.thread + 28);
}

STEP forward_after(const forward_frame& f) {
}

#ifndef HAS_FLOAT16
#define HAS_FLOAT16
// A sign, 5 bits of exponent and 10 of mantissa.
struct float16 { unsigned short bits; };
INLINE float wide(float16 h) {
#ifdef __F16C__
  return _cvtsh_ss(h.bits);
#else
  // The exponent is 112 less than that of float32, which the product mends for all numbers.
  unsigned bits = (h.bits & 0x7fffu) << 13;
  float f;
  memcpy(&f, &bits, 4);
  f *= 0x1p112f;
  memcpy(&bits, &f, 4);
  if ((h.bits & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= (h.bits & 0x8000u) << 16;
  memcpy(&f, &bits, 4);
  return f;
#endif
}
// To the nearest, ties to even; beyond the range infinite; what is no number stays none.
INLINE float16 narrow(float f) {
#ifdef __F16C__
  return {(unsigned short)_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT)};
#else
  unsigned bits, size;
  memcpy(&bits, &f, 4);
  size = bits & 0x7fffffffu;
  unsigned half;
  if (size > 0x7f800000u) half = 0x7e00u;
  else if (size >= 0x477ff000u) half = 0x7c00u;
  else if (size >= 0x38800000u) half = (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
  else {
    // Below the least normal number the last bit is 2^-24: added to 0.5, it is that of float32.
    float sum;
    memcpy(&sum, &size, 4);
    sum += 0.5f;
    memcpy(&half, &sum, 4);
    half -= 0x3f000000u;
  }
  return {(unsigned short)(half | (bits >> 16 & 0x8000u))};
#endif
}
INLINE reg wide(const float16* p) {
  reg v;
  for (int j = 0; j < REG; j++) v[j] = wide(p[j]);
  return v;
}
INLINE void narrow(float16* p, reg v) {
  for (int j = 0; j < REG; j++) p[j] = narrow(v[j]);
}
#endif

#ifndef HAS_STORED_RUNS
#define HAS_STORED_RUNS
template <typename T> INLINE void widen(entry* target, const T* source, size_t count) {
  size_t k = 0;
  for (; k + REG <= count; k += REG) *(reg*)(target + k) = wide(source + k);
  for (; k < count; k++) target[k] = wide(source[k]);
}
template <typename T> INLINE void narrow(T* target, const entry* source, size_t count) {
  size_t k = 0;
  for (; k + REG <= count; k += REG) narrow(target + k, *(const reg*)(source + k));
  for (; k < count; k++) target[k] = narrow(source[k]);
}
// A share of a long run for each thread, in whole vectors.
template <typename T, typename S, typename F>
INLINE void share(T* target, S* source, size_t count, int threads, F convert) {
  #pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int t = 0; t < threads; t++) {
    const size_t vectors = (count + REG - 1) / REG;
    const size_t start = vectors * t / threads * REG, past = vectors * (t + 1) / threads * REG;
    const size_t end = past < count ? past : count;
    if (start < end) convert(target + start, source + start, end - start);
  }
}
#endif

static int forward_run(Room& room, void** arguments, long batch, long blocks, int threads, int most) {
  forward_frame whole = {};

  // The addresses of the threads' sums stand in front, where a pointer is aligned.
  const size_t lines = (threads * sizeof(entry*) + 64 - 1) / 64;
  entry* call = room.call.get(68 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  whole.x2 = whole.shared + 36;
  widen(whole.shared + 36, (const float16*)arguments[2], 2);
  whole.n0 = whole.shared + 40;
  widen(whole.shared + 40, (const float16*)arguments[3], 24);
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 36 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = room.own[me].get(68);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 0;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 0 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    for (long turn = start; turn < end; turn++) {
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      const size_t valid = batch - block * 4 < 4 ? batch - block * 4 : 4;
      entry* room = own + ROOM;
      f.x0 = room + 0;
      widen(room + 0, ((float16*)arguments[0] + block * 8), valid * 2);
      memset((void*)(room + 0 + valid * 2), 0, (4 - valid) * sizeof(entry) * 2);
      f.x1 = room + 8;
      widen(room + 8, ((float16*)arguments[1] + block * 12), valid * 3);
      memset((void*)(room + 8 + valid * 3), 0, (4 - valid) * sizeof(entry) * 3);
      f.out_y = room + 20;
      forward_samples(f);
      narrow(((float16*)arguments[4] + block * 8), room + 20, valid * 2);
    }
  }
  if (failed) return 1;
  whole.team = team;
  forward_after(whole);
  return 0;
}

extern "C" int forward(void** arguments, long batch, int threads) {
  static const bool batched[] = {1, 1, 0, 0, 1};
  for (int k = 0; k < 5; k++)
    if (!arguments[k] && (batch || !batched[k])) return 2;
  const long blocks = (batch + 3) / 4;
  if (omp_in_parallel()) threads = 1;
  const int most = threads;
  if (threads > blocks) threads = blocks > 0 ? (int)blocks : 1;
  Room* room = take_room(threads);
  if (!room) return 1;
  const int status = forward_run(*room, arguments, batch, blocks, threads, most);
  leave_room(room);
  return status;
}

// Gives back what calls keep; the next call takes memory anew.
extern "C" void forward_release() { drop_rooms(); }


// n0 to lanes e0 e3
STEP backward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry* a = n0 + i0 * 4; entry* c = n0_l + i0 * 8;
      const reg r0 = part<4>((const real*)(a + 0) + 0);
      const reg r1 = part<4>((const real*)(a + 12) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 1, 4, 5);
      const reg r3 = SHUFFLE(r0, r1, 2, 3, 6, 7);
      put<4>((real*)(c + 0) + 0, r2);
      put<4>((real*)(c + 4) + 0, r3);
    }
  }
}

// t0 = n0 x x2, sum e2
STEP backward_before1_t0(const entry* __restrict x2, const entry* __restrict n0_l, entry* __restrict t0) {
  { const entry *a = n0_l; const entry *b = x2; entry *c = t0;
    vec y0_0, y1_0, y2_0; { const vec g0 = splat(b + 0); { const vec x = load(a + 0); y0_0 = g0 * x; } { const vec x = load(a + 8); y1_0 = g0 * x; } { const vec x = load(a + 16); y2_0 = g0 * x; } }
    { const vec g0 = splat(b + 1); { const vec x = load(a + 4); y0_0 += g0 * x; } { const vec x = load(a + 12); y1_0 += g0 * x; } { const vec x = load(a + 20); y2_0 += g0 * x; } }
    store(c + 0, y0_0);
    store(c + 4, y1_0);
    store(c + 8, y2_0); }
}

// x1 to lanes b
STEP backward_samples0_x1_l(const entry* __restrict x1, entry* __restrict x1_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 3, 6, 9};
    transpose<3, 4, false>(x1_l, to, x1, since); }
}

// t1 = x1 x t0, sum e1
STEP backward_samples1_t1(const entry* __restrict t0, const entry* __restrict x1_l, entry* __restrict t1) {
  { const entry *a = x1_l; const entry *b = t0; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } { const vec g = splat(b + 3); y0_3 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 6); y0_2 += g * x0; } { const vec g = splat(b + 7); y0_3 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } { const vec g = splat(b + 11); y0_3 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); }
}

// g to lanes b
STEP backward_samples2_g_l(const entry* __restrict g, entry* __restrict g_l) {
  { static const int to[] = {0, 4}; static const int since[] = {0, 2, 4, 6};
    transpose<2, 4, false>(g_l, to, g, since); }
}

// d_x0 = g x t1, sum e3
STEP backward_samples3_d_x0(const entry* __restrict t1, const entry* __restrict g_l, entry* __restrict d_x0) {
  { const entry *a = g_l; const entry *b = t1; entry *c = d_x0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = load(b + 0); y0_0 = g * x0; } { const vec g = load(b + 8); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = load(b + 4); y0_0 += g * x0; } { const vec g = load(b + 12); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// x0 to lanes b
STEP backward_samples4_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  { static const int to[] = {0, 4}; static const int since[] = {0, 2, 4, 6};
    transpose<2, 4, false>(x0_l, to, x0, since); }
}

// d_t1 = g x x0
STEP backward_samples5_d_t1(const entry* __restrict g_l, const entry* __restrict x0_l, entry* __restrict d_t1) {
  { const entry *a = g_l; const entry *b = x0_l; entry *c = d_t1;
    vec y0_0, y0_1, y1_0, y1_1; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = load(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = load(b + 4); y0_1 = g * x0; y1_1 = g * x1; } }
    store(c + 0, y0_0); store(c + 8, y0_1);
    store(c + 4, y1_0); store(c + 12, y1_1); }
}

// d_t0 = d_t1 x x1, sum b
STEP backward_samples6_d_t0(entry* __restrict d_t0_p, const entry* __restrict x1_l, const entry* __restrict d_t1) {
  { const entry *a = d_t1; const entry *b = x1_l; entry *c = d_t0_p;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y1_0, y1_1, y2_0, y2_1, y3_0, y3_1; { const vec g0 = load(b + 0), g1 = load(b + 4); { const vec x = load(a + 0); y0_0 = g0 * x; y0_1 = g1 * x; } { const vec x = load(a + 4); y1_0 = g0 * x; y1_1 = g1 * x; } { const vec x = load(a + 8); y2_0 = g0 * x; y2_1 = g1 * x; } { const vec x = load(a + 12); y3_0 = g0 * x; y3_1 = g1 * x; } }
    store(c + 0, y0_0 + load(c + 0)); store(c + 8, y0_1 + load(c + 8));
    store(c + 4, y1_0 + load(c + 4)); store(c + 12, y1_1 + load(c + 12));
    store(c + 24, y2_0 + load(c + 24)); store(c + 32, y2_1 + load(c + 32));
    store(c + 28, y3_0 + load(c + 28)); store(c + 36, y3_1 + load(c + 36)); }
  { const entry *a = d_t1; const entry *b = x1_l; entry *c = d_t0_p;
    READ_ANEW(a, b);
    vec y0_0, y1_0, y2_0, y3_0; { const vec g0 = load(b + 8); { const vec x = load(a + 0); y0_0 = g0 * x; } { const vec x = load(a + 4); y1_0 = g0 * x; } { const vec x = load(a + 8); y2_0 = g0 * x; } { const vec x = load(a + 12); y3_0 = g0 * x; } }
    store(c + 16, y0_0 + load(c + 16));
    store(c + 20, y1_0 + load(c + 20));
    store(c + 40, y2_0 + load(c + 40));
    store(c + 44, y3_0 + load(c + 44)); }
}

// d_x1 = d_t1 x t0, sum e0 e3
STEP backward_samples7_d_x1(const entry* __restrict t0, const entry* __restrict d_t1, entry* __restrict d_x1) {
  { const entry *a = d_t1; const entry *b = t0; entry *c = d_x1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 4); y0_1 = g * x0; } { const vec g = splat(b + 8); y0_2 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 9); y0_2 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 6); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 3); y0_0 += g * x0; } { const vec g = splat(b + 7); y0_1 += g * x0; } { const vec g = splat(b + 11); y0_2 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); }
}

// d_x0 leaves
STEP backward_samples8_out_d_x0(entry* __restrict out_d_x0, const entry* __restrict d_x0) {
  { static const int to[] = {0, 2, 4, 6}; static const int since[] = {0, 4};
    transpose<4, 2, false>(out_d_x0, to, d_x0, since); }
}

// d_x1 leaves
STEP backward_samples9_out_d_x1(entry* __restrict out_d_x1, const entry* __restrict d_x1) {
  { static const int to[] = {0, 3, 6, 9}; static const int since[] = {0, 4, 8};
    transpose<4, 3, false>(out_d_x1, to, d_x1, since); }
}

// d_t0 summed up
STEP backward_after0_d_t0_s(entry* const* partials, int team, size_t at_d_t0_p, entry* __restrict d_t0) {
  memset((void*)(d_t0), 0, 12 * sizeof(entry));
  for (int i0 = 0; i0 < 12; i0++) {
    {
      const size_t at = at_d_t0_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      *(d_t0 + i0 * 1) += sum(v);
    }
  }
}

// d_x2 = d_t0 x n0, sum e0 e1 e3
STEP backward_after1_d_x2(const entry* __restrict n0, entry* __restrict out_d_x2, const entry* __restrict d_t0) {
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = n0 + i0 * 2; const entry *b = d_t0; entry *c = out_d_x2 + i0 * 1;
      entry y0_0; { const entry x0 = scalar(a + 0); { const entry g = scalar(b + 0); y0_0 = g * x0; } }
      { const entry x0 = scalar(a + 1); { const entry g = scalar(b + 1); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 4); { const entry g = scalar(b + 2); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 5); { const entry g = scalar(b + 3); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 8); { const entry g = scalar(b + 4); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 9); { const entry g = scalar(b + 5); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 12); { const entry g = scalar(b + 6); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 13); { const entry g = scalar(b + 7); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 16); { const entry g = scalar(b + 8); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 17); { const entry g = scalar(b + 9); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 20); { const entry g = scalar(b + 10); y0_0 += g * x0; } }
      { const entry x0 = scalar(a + 21); { const entry g = scalar(b + 11); y0_0 += g * x0; } }
      store(c + 0, y0_0); }
  }
}

// d_t0 to lanes e0 e3
STEP backward_after2_d_t0_l(const entry* __restrict d_t0, entry* __restrict d_t0_l) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry* a = d_t0 + i0 * 2; entry* c = d_t0_l + i0 * 4;
      const reg r0 = part<2>((const real*)(a + 0) + 0);
      const reg r1 = part<2>((const real*)(a + 6) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 1, 4, 5);
      put<4>((real*)(c + 0) + 0, r2);
    }
  }
}

// d_n0 = d_t0 x x2
STEP backward_after3_d_n0(const entry* __restrict x2, const entry* __restrict d_t0_l, entry* __restrict d_n0) {
  { const entry *a = d_t0_l; const entry *b = x2; entry *c = d_n0;
    vec y0_0, y0_1, y1_0, y1_1, y2_0, y2_1; { const vec g0 = splat(b + 0), g1 = splat(b + 1); { const vec x = load(a + 0); y0_0 = g0 * x; y0_1 = g1 * x; } { const vec x = load(a + 4); y1_0 = g0 * x; y1_1 = g1 * x; } { const vec x = load(a + 8); y2_0 = g0 * x; y2_1 = g1 * x; } }
    store(c + 0, y0_0); store(c + 4, y0_1);
    store(c + 8, y1_0); store(c + 12, y1_1);
    store(c + 16, y2_0); store(c + 20, y2_1); }
}

// d_n0 leaves
STEP backward_after4_out_d_n0(entry* __restrict out_d_n0, const entry* __restrict d_n0) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry* a = d_n0 + i0 * 8; entry* c = out_d_n0 + i0 * 4;
      const reg r0 = part<4>((const real*)(a + 0) + 0);
      const reg r1 = part<4>((const real*)(a + 4) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 1, 4, 5);
      const reg r3 = SHUFFLE(r0, r1, 2, 3, 6, 7);
      put<4>((real*)(c + 0) + 0, r2);
      put<4>((real*)(c + 12) + 0, r3);
    }
  }
}

struct backward_frame {
  const entry* g;
  const entry* x0;
  const entry* x1;
  const entry* x2;
  const entry* n0;
  entry* out_d_x0;
  entry* out_d_x1;
  entry* out_d_x2;
  entry* out_d_n0;
  entry *shared, *thread, *partial;
  entry** partials;
  int team;
};

STEP backward_before(const backward_frame& f) {
  backward_before0_n0_l(f.n0, f.shared + 0);
  backward_before1_t0(f.x2, f.shared + 0, f.shared + 24);
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_x1_l(f.x1, f.thread + 0);
  backward_samples1_t1(f.shared + 24, f.thread + 0, f.thread + 12);
  backward_samples2_g_l(f.g, f.thread + 28);
  backward_samples3_d_x0(f.thread + 12, f.thread + 28, f.thread + 36);
  backward_samples4_x0_l(f.x0, f.thread + 12);
  backward_samples5_d_t1(f.thread + 28, f.thread + 12, f.thread + 44);
  backward_samples6_d_t0(f.partial + 0, f.thread + 0, f.thread + 44);
  backward_samples7_d_x1(f.shared + 24, f.thread + 44, f.thread + 0);
  backward_samples8_out_d_x0(f.out_d_x0, f.thread + 36);
  backward_samples9_out_d_x1(f.out_d_x1, f.thread + 0);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_t0_s(f.partials, f.team, 0, f.shared + 36);
  backward_after1_d_x2(f.n0, f.out_d_x2, f.shared + 36);
  backward_after2_d_t0_l(f.shared + 36, f.shared + 48);
  backward_after3_d_n0(f.x2, f.shared + 48, f.shared + 60);
  backward_after4_out_d_n0(f.out_d_n0, f.shared + 60);
}

#ifndef HAS_FLOAT16
#define HAS_FLOAT16
// A sign, 5 bits of exponent and 10 of mantissa.
struct float16 { unsigned short bits; };
INLINE float wide(float16 h) {
#ifdef __F16C__
  return _cvtsh_ss(h.bits);
#else
  // The exponent is 112 less than that of float32, which the product mends for all numbers.
  unsigned bits = (h.bits & 0x7fffu) << 13;
  float f;
  memcpy(&f, &bits, 4);
  f *= 0x1p112f;
  memcpy(&bits, &f, 4);
  if ((h.bits & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= (h.bits & 0x8000u) << 16;
  memcpy(&f, &bits, 4);
  return f;
#endif
}
// To the nearest, ties to even; beyond the range infinite; what is no number stays none.
INLINE float16 narrow(float f) {
#ifdef __F16C__
  return {(unsigned short)_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT)};
#else
  unsigned bits, size;
  memcpy(&bits, &f, 4);
  size = bits & 0x7fffffffu;
  unsigned half;
  if (size > 0x7f800000u) half = 0x7e00u;
  else if (size >= 0x477ff000u) half = 0x7c00u;
  else if (size >= 0x38800000u) half = (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
  else {
    // Below the least normal number the last bit is 2^-24: added to 0.5, it is that of float32.
    float sum;
    memcpy(&sum, &size, 4);
    sum += 0.5f;
    memcpy(&half, &sum, 4);
    half -= 0x3f000000u;
  }
  return {(unsigned short)(half | (bits >> 16 & 0x8000u))};
#endif
}
INLINE reg wide(const float16* p) {
  reg v;
  for (int j = 0; j < REG; j++) v[j] = wide(p[j]);
  return v;
}
INLINE void narrow(float16* p, reg v) {
  for (int j = 0; j < REG; j++) p[j] = narrow(v[j]);
}
#endif

#ifndef HAS_STORED_RUNS
#define HAS_STORED_RUNS
template <typename T> INLINE void widen(entry* target, const T* source, size_t count) {
  size_t k = 0;
  for (; k + REG <= count; k += REG) *(reg*)(target + k) = wide(source + k);
  for (; k < count; k++) target[k] = wide(source[k]);
}
template <typename T> INLINE void narrow(T* target, const entry* source, size_t count) {
  size_t k = 0;
  for (; k + REG <= count; k += REG) narrow(target + k, *(const reg*)(source + k));
  for (; k < count; k++) target[k] = narrow(source[k]);
}
// A share of a long run for each thread, in whole vectors.
template <typename T, typename S, typename F>
INLINE void share(T* target, S* source, size_t count, int threads, F convert) {
  #pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int t = 0; t < threads; t++) {
    const size_t vectors = (count + REG - 1) / REG;
    const size_t start = vectors * t / threads * REG, past = vectors * (t + 1) / threads * REG;
    const size_t end = past < count ? past : count;
    if (start < end) convert(target + start, source + start, end - start);
  }
}
#endif

static int backward_run(Room& room, void** arguments, long batch, long blocks, int threads, int most) {
  backward_frame whole = {};

  // The addresses of the threads' sums stand in front, where a pointer is aligned.
  const size_t lines = (threads * sizeof(entry*) + 64 - 1) / 64;
  entry* call = room.call.get(144 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  whole.x2 = whole.shared + 84;
  widen(whole.shared + 84, (const float16*)arguments[3], 2);
  whole.n0 = whole.shared + 88;
  widen(whole.shared + 88, (const float16*)arguments[4], 24);
  whole.out_d_x2 = whole.shared + 112;
  whole.out_d_n0 = whole.shared + 116;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 156 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = room.own[me].get(208);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 96;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 48 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    long run = 16;
    while (run * run < end - start) run *= 2;
    for (long turn = start; turn < end; turn++) {
      if (turn > start && (turn - start) % run == 0) {
        // What a run of blocks added up to is carried to sums of its own: short sums keep digits.
        entry* carried = own + 48;
        if (turn - start == run) memset((void*)carried, 0, 48 * sizeof(entry));
        for (size_t at = 0; at < 48; at++) carried[at] += own[at];
        memset((void*)own, 0, 48 * sizeof(entry));
      }
      const long block = blocks - 1 - turn, next = turn + 1 < end ? block - 1 : block;
      const size_t valid = batch - block * 4 < 4 ? batch - block * 4 : 4;
      entry* room = own + ROOM;
      f.g = room + 0;
      widen(room + 0, ((float16*)arguments[0] + block * 8), valid * 2);
      memset((void*)(room + 0 + valid * 2), 0, (4 - valid) * sizeof(entry) * 2);
      f.x0 = room + 8;
      widen(room + 8, ((float16*)arguments[1] + block * 8), valid * 2);
      memset((void*)(room + 8 + valid * 2), 0, (4 - valid) * sizeof(entry) * 2);
      f.x1 = room + 16;
      widen(room + 16, ((float16*)arguments[2] + block * 12), valid * 3);
      memset((void*)(room + 16 + valid * 3), 0, (4 - valid) * sizeof(entry) * 3);
      f.out_d_x0 = room + 28;
      f.out_d_x1 = room + 36;
      backward_samples(f);
      narrow(((float16*)arguments[5] + block * 8), room + 28, valid * 2);
      narrow(((float16*)arguments[6] + block * 12), room + 36, valid * 3);
      if (valid < 4)
        // Of a sample that is missing, 0 x inf must be in no sum.
        for (size_t at = 0; at < 48; at += W)
          for (size_t j = valid; j < W; j++) f.partial[at + j] = entry{};
    }
    if (end - start > run)
      for (size_t at = 0; at < 48; at++) own[at] += own[48 + at];
  }
  if (failed) return 1;
  whole.team = team;
  backward_after(whole);
  narrow((float16*)arguments[7], (const entry*)whole.shared + 112, 2);
  narrow((float16*)arguments[8], (const entry*)whole.shared + 116, 24);
  return 0;
}

extern "C" int backward(void** arguments, long batch, int threads) {
  static const bool batched[] = {1, 1, 1, 0, 0, 1, 1, 0, 0};
  for (int k = 0; k < 9; k++)
    if (!arguments[k] && (batch || !batched[k])) return 2;
  const long blocks = (batch + 3) / 4;
  if (omp_in_parallel()) threads = 1;
  const int most = threads;
  if (threads > blocks) threads = blocks > 0 ? (int)blocks : 1;
  Room* room = take_room(threads);
  if (!room) return 1;
  const int status = backward_run(*room, arguments, batch, blocks, threads, most);
  leave_room(room);
  return status;
}

// Gives back what calls keep; the next call takes memory anew.
extern "C" void backward_release() { drop_rooms(); }
