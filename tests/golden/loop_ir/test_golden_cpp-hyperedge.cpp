
// n0 to lanes e4
STEP forward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n0_l + i0 * 4, n0 + i0 * 3);
  }
}

// n1 to lanes e4
STEP forward_before1_n1_l(const entry* __restrict n1, entry* __restrict n1_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n1_l + i0 * 4, n1 + i0 * 3);
  }
}

// t0 = n0 x n1
STEP forward_before2_t0(const entry* __restrict n0_l, const entry* __restrict n1_l, entry* __restrict t0) {
  { const entry *a = n0_l; const entry *b = n1_l; entry *c = t0;
    vec y0_0, y0_1, y1_0, y1_1; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = load(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = load(b + 4); y0_1 = g * x0; y1_1 = g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1);
    store(c + 8, y1_0); store(c + 12, y1_1); }
}

// t1 = n2 x n3
STEP forward_before3_t1(const entry* __restrict n2, const entry* __restrict n3, entry* __restrict t1) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry *a = n3 + i0 * 2; const entry *b = n2 + i0 * 2; entry *c = t1 + i0 * 1;
      entry y0_0, y0_1, y1_0, y1_1; { const entry x0 = scalar(a + 0), x1 = scalar(a + 1); { const entry g = scalar(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const entry g = scalar(b + 1); y0_1 = g * x0; y1_1 = g * x1; } }
      store(c + 0, y0_0); store(c + 6, y0_1);
      store(c + 3, y1_0); store(c + 9, y1_1); }
  }
}

// t0 to lanes e0 e1
STEP forward_before4_t0_l(const entry* __restrict t0, entry* __restrict t0_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 4, 8, 12};
    transpose<3, 4, false>(t0_l, to, t0, since); }
}

// t2 = t0 x t1, sum e4
STEP forward_before5_t2(const entry* __restrict t1, const entry* __restrict t0_l, entry* __restrict t2) {
  { const entry *a = t0_l; const entry *b = t1; entry *c = t2;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 3); y0_1 = g * x0; } { const vec g = splat(b + 6); y0_2 = g * x0; } { const vec g = splat(b + 9); y0_3 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 4); y0_1 += g * x0; } { const vec g = splat(b + 7); y0_2 += g * x0; } { const vec g = splat(b + 10); y0_3 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 8); y0_2 += g * x0; } { const vec g = splat(b + 11); y0_3 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); }
}

// t2 to lanes e2 e3
STEP forward_before6_t2_l(const entry* __restrict t2, entry* __restrict t2_l) {
  { static const int to[] = {0, 4, 8, 12}; static const int since[] = {0, 4, 8, 12};
    transpose<4, 4, false>(t2_l, to, t2, since); }
}

// t3 = x0 x t2, sum e0 e1
STEP forward_samples0_t3(const entry* __restrict x0, entry* __restrict out_y, const entry* __restrict t2_l) {
  { const entry *a = t2_l; const entry *b = x0; entry *c = out_y;
    READ_ANEW(a, b);
    vec y0_0; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 3); y0_0 += g * x0; } }
    store(c + 0, y0_0); }
}

struct forward_frame {
  const entry* x0;
  const entry* n0;
  const entry* n1;
  const entry* n2;
  const entry* n3;
  entry* out_y;
  entry *shared, *thread, *partial;
  entry** partials;
  int team;
};

STEP forward_before(const forward_frame& f) {
  forward_before0_n0_l(f.n0, f.shared + 0);
  forward_before1_n1_l(f.n1, f.shared + 8);
  forward_before2_t0(f.shared + 0, f.shared + 8, f.shared + 16);
  forward_before3_t1(f.n2, f.n3, f.shared + 32);
  forward_before4_t0_l(f.shared + 16, f.shared + 44);
  forward_before5_t2(f.shared + 32, f.shared + 44, f.shared + 56);
  forward_before6_t2_l(f.shared + 56, f.shared + 72);
}

STEP forward_samples(const forward_frame& f) {
  forward_samples0_t3(f.x0, f.out_y, f.shared + 72);
}

STEP forward_after(const forward_frame& f) {
}

static int forward_run(Room& room, void** arguments, long batch, long blocks, int threads) {
  forward_frame whole = {};
  whole.x0 = (entry*)arguments[0];
  whole.n0 = (entry*)arguments[1];
  whole.n1 = (entry*)arguments[2];
  whole.n2 = (entry*)arguments[3];
  whole.n3 = (entry*)arguments[4];
  whole.out_y = (entry*)arguments[5];
  // The addresses of the threads' sums stand in front, where a pointer is aligned.
  const size_t lines = (threads * sizeof(entry*) + 64 - 1) / 64;
  entry* call = room.call.get(92 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 0 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = room.own[me].get(4);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 0;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 0 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    for (long turn = start; turn < end; turn++) {
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.x0 = whole.x0 + (size_t)block * 4;
      f.out_y = whole.out_y + (size_t)block * 4;

      forward_samples(f);
    }
  }
  if (failed) return 1;
  whole.team = team;
  forward_after(whole);
  return 0;
}

extern "C" int forward(void** arguments, long batch, int threads) {
  static const bool batched[] = {1, 0, 0, 0, 0, 1};
  for (int k = 0; k < 6; k++)
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


// n0 to lanes e4
STEP backward_before0_n0_l(const entry* __restrict n0, entry* __restrict n0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n0_l + i0 * 4, n0 + i0 * 3);
  }
}

// n1 to lanes e4
STEP backward_before1_n1_l(const entry* __restrict n1, entry* __restrict n1_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n1_l + i0 * 4, n1 + i0 * 3);
  }
}

// t0 = n0 x n1
STEP backward_before2_t0(const entry* __restrict n0_l, const entry* __restrict n1_l, entry* __restrict t0) {
  { const entry *a = n0_l; const entry *b = n1_l; entry *c = t0;
    vec y0_0, y0_1, y1_0, y1_1; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = load(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = load(b + 4); y0_1 = g * x0; y1_1 = g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1);
    store(c + 8, y1_0); store(c + 12, y1_1); }
}

// t1 = n2 x n3
STEP backward_before3_t1(const entry* __restrict n2, const entry* __restrict n3, entry* __restrict t1) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry *a = n3 + i0 * 2; const entry *b = n2 + i0 * 2; entry *c = t1 + i0 * 1;
      entry y0_0, y0_1, y1_0, y1_1; { const entry x0 = scalar(a + 0), x1 = scalar(a + 1); { const entry g = scalar(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const entry g = scalar(b + 1); y0_1 = g * x0; y1_1 = g * x1; } }
      store(c + 0, y0_0); store(c + 6, y0_1);
      store(c + 3, y1_0); store(c + 9, y1_1); }
  }
}

// t0 to lanes e0 e1
STEP backward_before4_t0_l(const entry* __restrict t0, entry* __restrict t0_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 4, 8, 12};
    transpose<3, 4, false>(t0_l, to, t0, since); }
}

// t2 = t0 x t1, sum e4
STEP backward_before5_t2(const entry* __restrict t1, const entry* __restrict t0_l, entry* __restrict t2) {
  { const entry *a = t0_l; const entry *b = t1; entry *c = t2;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 3); y0_1 = g * x0; } { const vec g = splat(b + 6); y0_2 = g * x0; } { const vec g = splat(b + 9); y0_3 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 4); y0_1 += g * x0; } { const vec g = splat(b + 7); y0_2 += g * x0; } { const vec g = splat(b + 10); y0_3 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 8); y0_2 += g * x0; } { const vec g = splat(b + 11); y0_3 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); }
}

// d_t2 = g x x0, sum b
STEP backward_samples0_d_t2(const entry* __restrict g, const entry* __restrict x0, entry* __restrict d_t2_p) {
  { const entry *a = g; const entry *b = x0; entry *c = d_t2_p;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } { const vec g = splat(b + 3); y0_3 = g * x0; } }
    store(c + 0, y0_0 + load(c + 0)); store(c + 4, y0_1 + load(c + 4)); store(c + 8, y0_2 + load(c + 8)); store(c + 12, y0_3 + load(c + 12)); }
}

// d_x0 = g x t2, sum e2 e3
STEP backward_samples1_d_x0(const entry* __restrict g, entry* __restrict out_d_x0, const entry* __restrict t2) {
  { const entry *a = t2; const entry *b = g; entry *c = out_d_x0;
    READ_ANEW(a, b);
    vec y0_0; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 3); y0_0 += g * x0; } }
    store(c + 0, y0_0); }
}

// d_t2 summed up
STEP backward_after0_d_t2_s(entry* const* partials, int team, size_t at_d_t2_p, entry* __restrict d_t2) {
  memset((void*)(d_t2), 0, 16 * sizeof(entry));
  for (int i0 = 0; i0 < 4; i0++) {
    {
      const size_t at = at_d_t2_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      v += load(d_t2 + i0 * 4);
      store(d_t2 + i0 * 4, v);
    }
  }
}

// d_t2 to lanes e0 e1
STEP backward_after1_d_t2_l(const entry* __restrict d_t2, entry* __restrict d_t2_l) {
  { static const int to[] = {0, 4, 8, 12}; static const int since[] = {0, 4, 8, 12};
    transpose<4, 4, false>(d_t2_l, to, d_t2, since); }
}

// d_t0 = d_t2 x t1, sum e2 e3
STEP backward_after2_d_t0(const entry* __restrict t1, const entry* __restrict d_t2_l, entry* __restrict d_t0) {
  { const entry *a = d_t2_l; const entry *b = t1; entry *c = d_t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 3); y0_0 += g * x0; } { const vec g = splat(b + 4); y0_1 += g * x0; } { const vec g = splat(b + 5); y0_2 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 6); y0_0 += g * x0; } { const vec g = splat(b + 7); y0_1 += g * x0; } { const vec g = splat(b + 8); y0_2 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 9); y0_0 += g * x0; } { const vec g = splat(b + 10); y0_1 += g * x0; } { const vec g = splat(b + 11); y0_2 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); }
}

// d_t1 = d_t2 x t0, sum e0 e1
STEP backward_after3_d_t1(const entry* __restrict t0, const entry* __restrict d_t2, entry* __restrict d_t1) {
  { const entry *a = d_t2; const entry *b = t0; entry *c = d_t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 6); y0_2 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 12); y0_0 += g * x0; } { const vec g = splat(b + 13); y0_1 += g * x0; } { const vec g = splat(b + 14); y0_2 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); }
}

// d_n2 = d_t1 x n3, sum e3
STEP backward_after4_d_n2(const entry* __restrict n3, entry* __restrict out_d_n2, const entry* __restrict d_t1) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry *a = n3 + i0 * 2; const entry *b = d_t1 + i0 * 4; entry *c = out_d_n2 + i0 * 2;
      READ_ANEW(a, b);
      entry y0_0, y0_1; { const entry x0 = scalar(a + 0); { const entry g = scalar(b + 0); y0_0 = g * x0; } { const entry g = scalar(b + 2); y0_1 = g * x0; } }
      { const entry x0 = scalar(a + 1); { const entry g = scalar(b + 1); y0_0 += g * x0; } { const entry g = scalar(b + 3); y0_1 += g * x0; } }
      store(c + 0, y0_0); store(c + 1, y0_1); }
  }
}

// d_n3 = d_t1 x n2, sum e2
STEP backward_after5_d_n3(const entry* __restrict n2, entry* __restrict out_d_n3, const entry* __restrict d_t1) {
  for (int i0 = 0; i0 < 3; i0++) {
    { const entry *a = n2 + i0 * 2; const entry *b = d_t1 + i0 * 4; entry *c = out_d_n3 + i0 * 2;
      READ_ANEW(a, b);
      entry y0_0, y0_1; { const entry x0 = scalar(a + 0); { const entry g = scalar(b + 0); y0_0 = g * x0; } { const entry g = scalar(b + 1); y0_1 = g * x0; } }
      { const entry x0 = scalar(a + 1); { const entry g = scalar(b + 2); y0_0 += g * x0; } { const entry g = scalar(b + 3); y0_1 += g * x0; } }
      store(c + 0, y0_0); store(c + 1, y0_1); }
  }
}

// d_t0 to lanes e4
STEP backward_after6_d_t0_l(const entry* __restrict d_t0, entry* __restrict d_t0_l) {
  { static const int to[] = {0, 4, 8, 12}; static const int since[] = {0, 4, 8};
    transpose<4, 3, true>(d_t0_l, to, d_t0, since); }
}

// d_n0 = d_t0 x n1, sum e1
STEP backward_after7_d_n0(const entry* __restrict n1_l, const entry* __restrict d_t0_l, entry* __restrict d_n0) {
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = d_t0_l + i0 * 8; const entry *b = n1_l; entry *c = d_n0 + i0 * 4;
      vec y0_0; { const vec x0 = load(a + 0); { const vec g = load(b + 0); y0_0 = g * x0; } }
      { const vec x0 = load(a + 4); { const vec g = load(b + 4); y0_0 += g * x0; } }
      store(c + 0, y0_0); }
  }
}

// d_n1 = d_t0 x n0, sum e0
STEP backward_after8_d_n1(const entry* __restrict n0_l, const entry* __restrict d_t0_l, entry* __restrict d_n1) {
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = d_t0_l + i0 * 4; const entry *b = n0_l; entry *c = d_n1 + i0 * 4;
      vec y0_0; { const vec x0 = load(a + 0); { const vec g = load(b + 0); y0_0 = g * x0; } }
      { const vec x0 = load(a + 8); { const vec g = load(b + 4); y0_0 += g * x0; } }
      store(c + 0, y0_0); }
  }
}

// d_n0 leaves
STEP backward_after9_out_d_n0(entry* __restrict out_d_n0, const entry* __restrict d_n0) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, false>(out_d_n0 + i0 * 3, d_n0 + i0 * 4);
  }
}

// d_n1 leaves
STEP backward_after10_out_d_n1(entry* __restrict out_d_n1, const entry* __restrict d_n1) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, false>(out_d_n1 + i0 * 3, d_n1 + i0 * 4);
  }
}

struct backward_frame {
  const entry* g;
  const entry* x0;
  const entry* n0;
  const entry* n1;
  const entry* n2;
  const entry* n3;
  entry* out_d_x0;
  entry* out_d_n0;
  entry* out_d_n1;
  entry* out_d_n2;
  entry* out_d_n3;
  entry *shared, *thread, *partial;
  entry** partials;
  int team;
};

STEP backward_before(const backward_frame& f) {
  backward_before0_n0_l(f.n0, f.shared + 0);
  backward_before1_n1_l(f.n1, f.shared + 8);
  backward_before2_t0(f.shared + 0, f.shared + 8, f.shared + 16);
  backward_before3_t1(f.n2, f.n3, f.shared + 32);
  backward_before4_t0_l(f.shared + 16, f.shared + 44);
  backward_before5_t2(f.shared + 32, f.shared + 44, f.shared + 56);
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_d_t2(f.g, f.x0, f.partial + 0);
  backward_samples1_d_x0(f.g, f.out_d_x0, f.shared + 56);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_t2_s(f.partials, f.team, 0, f.shared + 72);
  backward_after1_d_t2_l(f.shared + 72, f.shared + 88);
  backward_after2_d_t0(f.shared + 32, f.shared + 88, f.shared + 104);
  backward_after3_d_t1(f.shared + 16, f.shared + 72, f.shared + 116);
  backward_after4_d_n2(f.n3, f.out_d_n2, f.shared + 116);
  backward_after5_d_n3(f.n2, f.out_d_n3, f.shared + 116);
  backward_after6_d_t0_l(f.shared + 104, f.shared + 128);
  backward_after7_d_n0(f.shared + 8, f.shared + 128, f.shared + 144);
  backward_after8_d_n1(f.shared + 0, f.shared + 128, f.shared + 152);
  backward_after9_out_d_n0(f.out_d_n0, f.shared + 144);
  backward_after10_out_d_n1(f.out_d_n1, f.shared + 152);
}

static int backward_run(Room& room, void** arguments, long batch, long blocks, int threads) {
  backward_frame whole = {};
  whole.g = (entry*)arguments[0];
  whole.x0 = (entry*)arguments[1];
  whole.n0 = (entry*)arguments[2];
  whole.n1 = (entry*)arguments[3];
  whole.n2 = (entry*)arguments[4];
  whole.n3 = (entry*)arguments[5];
  whole.out_d_x0 = (entry*)arguments[6];
  whole.out_d_n0 = (entry*)arguments[7];
  whole.out_d_n1 = (entry*)arguments[8];
  whole.out_d_n2 = (entry*)arguments[9];
  whole.out_d_n3 = (entry*)arguments[10];
  // The addresses of the threads' sums stand in front, where a pointer is aligned.
  const size_t lines = (threads * sizeof(entry*) + 64 - 1) / 64;
  entry* call = room.call.get(164 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 32 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = room.own[me].get(36);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 32;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 16 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    long run = 32;
    while (run * run < end - start) run *= 2;
    for (long turn = start; turn < end; turn++) {
      if (turn > start && (turn - start) % run == 0) {
        // What a run of blocks added up to is carried to sums of its own: short sums keep digits.
        entry* carried = own + 16;
        if (turn - start == run) memset((void*)carried, 0, 16 * sizeof(entry));
        for (size_t at = 0; at < 16; at++) carried[at] += own[at];
        memset((void*)own, 0, 16 * sizeof(entry));
      }
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.g = whole.g + (size_t)block * 4;
      f.x0 = whole.x0 + (size_t)block * 4;
      f.out_d_x0 = whole.out_d_x0 + (size_t)block * 4;

      backward_samples(f);
    }
    if (end - start > run)
      for (size_t at = 0; at < 16; at++) own[at] += own[16 + at];
  }
  if (failed) return 1;
  whole.team = team;
  backward_after(whole);
  return 0;
}

extern "C" int backward(void** arguments, long batch, int threads) {
  static const bool batched[] = {1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0};
  for (int k = 0; k < 11; k++)
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
