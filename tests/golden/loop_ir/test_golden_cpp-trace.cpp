
// n0_d_r = n0_d, sum e3
STEP forward_before0_n0_d_r(const entry* __restrict n0, entry* __restrict n0_d_r) {
  { const entry *a = n0; entry *c = n0_d_r;
    entry y0_0 = scalar(a + 0), y1_0 = scalar(a + 4), y2_0 = scalar(a + 8), y3_0 = scalar(a + 36), y4_0 = scalar(a + 40), y5_0 = scalar(a + 44);
    y0_0 += scalar(a + 27); y1_0 += scalar(a + 31); y2_0 += scalar(a + 35); y3_0 += scalar(a + 63); y4_0 += scalar(a + 67); y5_0 += scalar(a + 71);
    store(c + 0, y0_0);
    store(c + 1, y1_0);
    store(c + 2, y2_0);
    store(c + 3, y3_0);
    store(c + 4, y4_0);
    store(c + 5, y5_0); }
}

// n1_r = n1, sum e5
STEP forward_before1_n1_r(const entry* __restrict n1, entry* __restrict n1_r) {
  { const entry *a = n1; entry *c = n1_r;
    entry y0_0 = scalar(a + 0), y1_0 = scalar(a + 4), y2_0 = scalar(a + 8), y3_0 = scalar(a + 2), y4_0 = scalar(a + 6), y5_0 = scalar(a + 10);
    y0_0 += scalar(a + 1); y1_0 += scalar(a + 5); y2_0 += scalar(a + 9); y3_0 += scalar(a + 3); y4_0 += scalar(a + 7); y5_0 += scalar(a + 11);
    store(c + 0, y0_0);
    store(c + 1, y1_0);
    store(c + 2, y2_0);
    store(c + 3, y3_0);
    store(c + 4, y4_0);
    store(c + 5, y5_0); }
}

// t0 = n0_d_r x n1_r, sum e4
STEP forward_before2_t0(const entry* __restrict n0_d_r, const entry* __restrict n1_r, entry* __restrict t0) {
  { const entry *a = n1_r; const entry *b = n0_d_r; entry *c = t0;
    entry y0_0, y0_1, y1_0, y1_1; { const entry x0 = scalar(a + 0), x1 = scalar(a + 3); { const entry g = scalar(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const entry g = scalar(b + 3); y0_1 = g * x0; y1_1 = g * x1; } }
    { const entry x0 = scalar(a + 1), x1 = scalar(a + 4); { const entry g = scalar(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const entry g = scalar(b + 4); y0_1 += g * x0; y1_1 += g * x1; } }
    { const entry x0 = scalar(a + 2), x1 = scalar(a + 5); { const entry g = scalar(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const entry g = scalar(b + 5); y0_1 += g * x0; y1_1 += g * x1; } }
    store(c + 0, y0_0); store(c + 1, y0_1);
    store(c + 2, y1_0); store(c + 3, y1_1); }
}

// x0 to lanes e1
STEP forward_samples0_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(x0_l + i0 * 4, x0 + i0 * 3);
  }
}

// t1 = x0 x t0, sum e0
STEP forward_samples1_t1(const entry* __restrict t0, const entry* __restrict x0_l, entry* __restrict t1) {
  { const entry *a = x0_l; const entry *b = t0; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// y leaves
STEP forward_samples2_out_y(entry* __restrict out_y, const entry* __restrict t1) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, false>(out_y + i0 * 3, t1 + i0 * 4);
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
  forward_before0_n0_d_r(f.n0, f.shared + 0);
  forward_before1_n1_r(f.n1, f.shared + 8);
  forward_before2_t0(f.shared + 0, f.shared + 8, f.shared + 16);
}

STEP forward_samples(const forward_frame& f) {
  forward_samples0_x0_l(f.x0, f.thread + 0);
  forward_samples1_t1(f.shared + 16, f.thread + 0, f.thread + 8);
  forward_samples2_out_y(f.out_y, f.thread + 8);
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
  entry* call = room.call.get(24 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 16 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = room.own[me].get(20);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 0;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 0 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    for (long turn = start; turn < end; turn++) {
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.x0 = whole.x0 + (size_t)block * 6;
      f.out_y = whole.out_y + (size_t)block * 6;

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


// n0_d_r = n0_d, sum e3
STEP backward_before0_n0_d_r(const entry* __restrict n0, entry* __restrict n0_d_r) {
  { const entry *a = n0; entry *c = n0_d_r;
    entry y0_0 = scalar(a + 0), y1_0 = scalar(a + 4), y2_0 = scalar(a + 8), y3_0 = scalar(a + 36), y4_0 = scalar(a + 40), y5_0 = scalar(a + 44);
    y0_0 += scalar(a + 27); y1_0 += scalar(a + 31); y2_0 += scalar(a + 35); y3_0 += scalar(a + 63); y4_0 += scalar(a + 67); y5_0 += scalar(a + 71);
    store(c + 0, y0_0);
    store(c + 1, y1_0);
    store(c + 2, y2_0);
    store(c + 3, y3_0);
    store(c + 4, y4_0);
    store(c + 5, y5_0); }
}

// n1_r = n1, sum e5
STEP backward_before1_n1_r(const entry* __restrict n1, entry* __restrict n1_r) {
  { const entry *a = n1; entry *c = n1_r;
    entry y0_0 = scalar(a + 0), y1_0 = scalar(a + 4), y2_0 = scalar(a + 8), y3_0 = scalar(a + 2), y4_0 = scalar(a + 6), y5_0 = scalar(a + 10);
    y0_0 += scalar(a + 1); y1_0 += scalar(a + 5); y2_0 += scalar(a + 9); y3_0 += scalar(a + 3); y4_0 += scalar(a + 7); y5_0 += scalar(a + 11);
    store(c + 0, y0_0);
    store(c + 1, y1_0);
    store(c + 2, y2_0);
    store(c + 3, y3_0);
    store(c + 4, y4_0);
    store(c + 5, y5_0); }
}

// t0 = n0_d_r x n1_r, sum e4
STEP backward_before2_t0(const entry* __restrict n0_d_r, const entry* __restrict n1_r, entry* __restrict t0) {
  { const entry *a = n1_r; const entry *b = n0_d_r; entry *c = t0;
    entry y0_0, y0_1, y1_0, y1_1; { const entry x0 = scalar(a + 0), x1 = scalar(a + 3); { const entry g = scalar(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const entry g = scalar(b + 3); y0_1 = g * x0; y1_1 = g * x1; } }
    { const entry x0 = scalar(a + 1), x1 = scalar(a + 4); { const entry g = scalar(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const entry g = scalar(b + 4); y0_1 += g * x0; y1_1 += g * x1; } }
    { const entry x0 = scalar(a + 2), x1 = scalar(a + 5); { const entry g = scalar(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const entry g = scalar(b + 5); y0_1 += g * x0; y1_1 += g * x1; } }
    store(c + 0, y0_0); store(c + 2, y0_1);
    store(c + 1, y1_0); store(c + 3, y1_1); }
}

// n1_r to lanes e4
STEP backward_before3_n1_r_l(const entry* __restrict n1_r, entry* __restrict n1_r_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n1_r_l + i0 * 4, n1_r + i0 * 3);
  }
}

// n0_d_r to lanes e4
STEP backward_before4_n0_d_r_l(const entry* __restrict n0_d_r, entry* __restrict n0_d_r_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n0_d_r_l + i0 * 4, n0_d_r + i0 * 3);
  }
}

// g to lanes e1
STEP backward_samples0_g_l(const entry* __restrict g, entry* __restrict g_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(g_l + i0 * 4, g + i0 * 3);
  }
}

// x0 to lanes e1
STEP backward_samples1_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(x0_l + i0 * 4, x0 + i0 * 3);
  }
}

// d_t0 = g x x0, sum b e1
STEP backward_samples2_d_t0(entry* __restrict d_t0_p, const entry* __restrict g_l, const entry* __restrict x0_l) {
  { const entry *a = g_l; const entry *b = x0_l; entry *c = d_t0_p;
    vec y0_0, y0_1, y1_0, y1_1; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = load(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = load(b + 4); y0_1 = g * x0; y1_1 = g * x1; } }
    store(c + 0, y0_0 + load(c + 0)); store(c + 8, y0_1 + load(c + 8));
    store(c + 4, y1_0 + load(c + 4)); store(c + 12, y1_1 + load(c + 12)); }
}

// d_x0 = g x t0, sum e2
STEP backward_samples3_d_x0(const entry* __restrict t0, const entry* __restrict g_l, entry* __restrict d_x0) {
  { const entry *a = g_l; const entry *b = t0; entry *c = d_x0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_x0 leaves
STEP backward_samples4_out_d_x0(entry* __restrict out_d_x0, const entry* __restrict d_x0) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, false>(out_d_x0 + i0 * 3, d_x0 + i0 * 4);
  }
}

// d_t0 summed up
STEP backward_after0_d_t0_s(entry* const* partials, int team, size_t at_d_t0_p, entry* __restrict d_t0) {
  memset((void*)(d_t0), 0, 4 * sizeof(entry));
  for (int i0 = 0; i0 < 4; i0++) {
    {
      const size_t at = at_d_t0_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      entry lanes[W];
      store(lanes, v);
      static const int to[] = {0, 0, 0};
      for (int j = 0; j < 3; j++) (d_t0 + i0 * 1)[to[j]] += lanes[j];
    }
  }
}

// d_n0_d_r = d_t0 x n1_r, sum e2
STEP backward_after1_d_n0_d_r(const entry* __restrict d_t0, const entry* __restrict n1_r_l, entry* __restrict d_n0_d_r) {
  { const entry *a = n1_r_l; const entry *b = d_t0; entry *c = d_n0_d_r;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_n1_r = d_t0 x n0_d_r, sum e0
STEP backward_after2_d_n1_r(const entry* __restrict d_t0, const entry* __restrict n0_d_r_l, entry* __restrict d_n1_r) {
  { const entry *a = n0_d_r_l; const entry *b = d_t0; entry *c = d_n1_r;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// diagonal of d_n0
STEP backward_after3_d_n0(const entry* __restrict d_n0_d_r, entry* __restrict d_n0) {
  memset((void*)(d_n0), 0, 72 * sizeof(entry));
  for (int i0 = 0; i0 < 2; i0++) {
    { const entry *a = d_n0_d_r; entry *c = d_n0 + i0 * 27;
      entry y0_0 = scalar(a + 0), y1_0 = scalar(a + 1), y2_0 = scalar(a + 2), y3_0 = scalar(a + 4), y4_0 = scalar(a + 5), y5_0 = scalar(a + 6);
      store(c + 0, y0_0);
      store(c + 4, y1_0);
      store(c + 8, y2_0);
      store(c + 36, y3_0);
      store(c + 40, y4_0);
      store(c + 44, y5_0); }
  }
}

// d_n0 leaves
STEP backward_after4_out_d_n0(entry* __restrict out_d_n0, const entry* __restrict d_n0) {
  for (int i0 = 0; i0 < 24; i0++) {
    copy<3, false>(out_d_n0 + i0 * 3, d_n0 + i0 * 3);
  }
}

// d_n1 leaves
STEP backward_after5_out_d_n1(entry* __restrict out_d_n1, const entry* __restrict d_n1_r) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 0, 4, 4};
    transpose<3, 4, false>(out_d_n1, to, d_n1_r, since); }
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
  backward_before0_n0_d_r(f.n0, f.shared + 0);
  backward_before1_n1_r(f.n1, f.shared + 8);
  backward_before2_t0(f.shared + 0, f.shared + 8, f.shared + 16);
  backward_before3_n1_r_l(f.shared + 8, f.shared + 24);
  backward_before4_n0_d_r_l(f.shared + 0, f.shared + 40);
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_g_l(f.g, f.thread + 0);
  backward_samples1_x0_l(f.x0, f.thread + 8);
  backward_samples2_d_t0(f.partial + 0, f.thread + 0, f.thread + 8);
  backward_samples3_d_x0(f.shared + 16, f.thread + 0, f.thread + 8);
  backward_samples4_out_d_x0(f.out_d_x0, f.thread + 8);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_t0_s(f.partials, f.team, 0, f.shared + 20);
  backward_after1_d_n0_d_r(f.shared + 20, f.shared + 24, f.shared + 32);
  backward_after2_d_n1_r(f.shared + 20, f.shared + 40, f.shared + 48);
  backward_after3_d_n0(f.shared + 32, f.shared + 56);
  backward_after4_out_d_n0(f.out_d_n0, f.shared + 56);
  backward_after5_out_d_n1(f.out_d_n1, f.shared + 48);
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
  entry* call = room.call.get(132 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 48 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = room.own[me].get(52);
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
      f.g = whole.g + (size_t)block * 6;
      f.x0 = whole.x0 + (size_t)block * 6;
      f.out_d_x0 = whole.out_d_x0 + (size_t)block * 6;

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
