
// n1 to lanes e1
STEP forward_before0_n1_l(const entry* __restrict n1, entry* __restrict n1_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n1_l + i0 * 4, n1 + i0 * 3);
  }
}

// t0 = n0 x n1, sum e4
STEP forward_before1_t0(const entry* __restrict n0, const entry* __restrict n1_l, entry* __restrict t0) {
  { const entry *a = n1_l; const entry *b = n0; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } { const vec g = splat(b + 4); y0_2 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } { const vec g = splat(b + 5); y0_2 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); }
}

// x0 to lanes b
STEP forward_samples0_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 3, 6, 9};
    transpose<3, 4, false>(x0_l, to, x0, since); }
}

// t1 = x0 x t0, sum e1
STEP forward_samples1_t1(const entry* __restrict t0, const entry* __restrict x0_l, entry* __restrict t1) {
  { const entry *a = x0_l; const entry *b = t0; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 4); y0_1 = g * x0; } { const vec g = splat(b + 8); y0_2 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 9); y0_2 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 6); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); }
}

// y leaves
STEP forward_samples2_out_y(entry* __restrict out_y, const entry* __restrict t1) {
  { static const int to[] = {0, 3, 6, 9}; static const int since[] = {0, 4, 8};
    transpose<4, 3, false>(out_y, to, t1, since); }
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
  forward_before0_n1_l(f.n1, f.shared + 0);
  forward_before1_t0(f.n0, f.shared + 0, f.shared + 8);
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
  entry* call = room.call.get(24 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 24 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = room.own[me].get(52);
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
      f.out_y = whole.out_y + (size_t)block * 12;
      const size_t valid = batch - block * 4;
      if (valid < 4) {
        entry* room = own + ROOM;
        memcpy((void*)(room + 0), f.x0, valid * sizeof(entry) * 3);
        memset((void*)(room + 0 + valid * 3), 0, (4 - valid) * sizeof(entry) * 3);
        f.x0 = room + 0;
        entry* out_out_y = f.out_y;
        f.out_y = room + 12;
        forward_samples(f);
        memcpy((void*)out_out_y, room + 12, valid * sizeof(entry) * 3);
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


// n1 to lanes e1
STEP backward_before0_n1_l(const entry* __restrict n1, entry* __restrict n1_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, true>(n1_l + i0 * 4, n1 + i0 * 3);
  }
}

// t0 = n0 x n1, sum e4
STEP backward_before1_t0(const entry* __restrict n0, const entry* __restrict n1_l, entry* __restrict t0) {
  { const entry *a = n1_l; const entry *b = n0; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } { const vec g = splat(b + 4); y0_2 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } { const vec g = splat(b + 5); y0_2 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); }
}

// g to lanes b
STEP backward_samples0_g_l(const entry* __restrict g, entry* __restrict g_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 3, 6, 9};
    transpose<3, 4, false>(g_l, to, g, since); }
}

// x0 to lanes b
STEP backward_samples1_x0_l(const entry* __restrict x0, entry* __restrict x0_l) {
  { static const int to[] = {0, 4, 8}; static const int since[] = {0, 3, 6, 9};
    transpose<3, 4, false>(x0_l, to, x0, since); }
}

// d_t0 = g x x0, sum b
STEP backward_samples2_d_t0(entry* __restrict d_t0_p, const entry* __restrict g_l, const entry* __restrict x0_l) {
  { const entry *a = g_l; const entry *b = x0_l; entry *c = d_t0_p;
    vec y0_0, y0_1, y0_2, y1_0, y1_1, y1_2, y2_0, y2_1, y2_2; { const vec x0 = load(a + 0), x1 = load(a + 4), x2 = load(a + 8); { const vec g = load(b + 0); y0_0 = g * x0; y1_0 = g * x1; y2_0 = g * x2; } { const vec g = load(b + 4); y0_1 = g * x0; y1_1 = g * x1; y2_1 = g * x2; } { const vec g = load(b + 8); y0_2 = g * x0; y1_2 = g * x1; y2_2 = g * x2; } }
    store(c + 0, y0_0 + load(c + 0)); store(c + 4, y0_1 + load(c + 4)); store(c + 8, y0_2 + load(c + 8));
    store(c + 12, y1_0 + load(c + 12)); store(c + 16, y1_1 + load(c + 16)); store(c + 20, y1_2 + load(c + 20));
    store(c + 24, y2_0 + load(c + 24)); store(c + 28, y2_1 + load(c + 28)); store(c + 32, y2_2 + load(c + 32)); }
}

// d_x0 = g x t0, sum e2
STEP backward_samples3_d_x0(const entry* __restrict t0, const entry* __restrict g_l, entry* __restrict d_x0) {
  { const entry *a = g_l; const entry *b = t0; entry *c = d_x0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 6); y0_2 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); }
}

// d_x0 leaves
STEP backward_samples4_out_d_x0(entry* __restrict out_d_x0, const entry* __restrict d_x0) {
  { static const int to[] = {0, 3, 6, 9}; static const int since[] = {0, 4, 8};
    transpose<4, 3, false>(out_d_x0, to, d_x0, since); }
}

// d_t0 summed up
STEP backward_after0_d_t0_s(entry* const* partials, int team, size_t at_d_t0_p, entry* __restrict d_t0) {
  memset((void*)(d_t0), 0, 9 * sizeof(entry));
  for (int i0 = 0; i0 < 9; i0++) {
    {
      const size_t at = at_d_t0_p + i0 * 4;
      vec v = load(partials[0] + at);
      for (int t = 1; t < team; t++) v += load(partials[t] + at);
      *(d_t0 + i0 * 1) += sum(v);
    }
  }
}

// d_n0 = d_t0 x n1, sum e1
STEP backward_after1_d_n0(const entry* __restrict n1, entry* __restrict out_d_n0, const entry* __restrict d_t0) {
  { const entry *a = n1; const entry *b = d_t0; entry *c = out_d_n0;
    READ_ANEW(a, b);
    entry y0_0, y0_1, y0_2, y1_0, y1_1, y1_2; { const entry x0 = scalar(a + 0), x1 = scalar(a + 3); { const entry g = scalar(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const entry g = scalar(b + 3); y0_1 = g * x0; y1_1 = g * x1; } { const entry g = scalar(b + 6); y0_2 = g * x0; y1_2 = g * x1; } }
    { const entry x0 = scalar(a + 1), x1 = scalar(a + 4); { const entry g = scalar(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const entry g = scalar(b + 4); y0_1 += g * x0; y1_1 += g * x1; } { const entry g = scalar(b + 7); y0_2 += g * x0; y1_2 += g * x1; } }
    { const entry x0 = scalar(a + 2), x1 = scalar(a + 5); { const entry g = scalar(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const entry g = scalar(b + 5); y0_1 += g * x0; y1_1 += g * x1; } { const entry g = scalar(b + 8); y0_2 += g * x0; y1_2 += g * x1; } }
    store(c + 0, y0_0); store(c + 2, y0_1); store(c + 4, y0_2);
    store(c + 1, y1_0); store(c + 3, y1_1); store(c + 5, y1_2); }
}

// d_t0 to lanes e1
STEP backward_after2_d_t0_l(const entry* __restrict d_t0, entry* __restrict d_t0_l) {
  for (int i0 = 0; i0 < 3; i0++) {
    copy<3, true>(d_t0_l + i0 * 4, d_t0 + i0 * 3);
  }
}

// d_n1 = d_t0 x n0, sum e2
STEP backward_after3_d_n1(const entry* __restrict n0, const entry* __restrict d_t0_l, entry* __restrict d_n1) {
  { const entry *a = d_t0_l; const entry *b = n0; entry *c = d_n1;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_n1 leaves
STEP backward_after4_out_d_n1(entry* __restrict out_d_n1, const entry* __restrict d_n1) {
  for (int i0 = 0; i0 < 2; i0++) {
    copy<3, false>(out_d_n1 + i0 * 3, d_n1 + i0 * 4);
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
  backward_before0_n1_l(f.n1, f.shared + 0);
  backward_before1_t0(f.n0, f.shared + 0, f.shared + 8);
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_g_l(f.g, f.thread + 0);
  backward_samples1_x0_l(f.x0, f.thread + 12);
  backward_samples2_d_t0(f.partial + 0, f.thread + 0, f.thread + 12);
  backward_samples3_d_x0(f.shared + 8, f.thread + 0, f.thread + 12);
  backward_samples4_out_d_x0(f.out_d_x0, f.thread + 12);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_t0_s(f.partials, f.team, 0, f.shared + 20);
  backward_after1_d_n0(f.n1, f.out_d_n0, f.shared + 20);
  backward_after2_d_t0_l(f.shared + 20, f.shared + 32);
  backward_after3_d_n1(f.n0, f.shared + 32, f.shared + 44);
  backward_after4_out_d_n1(f.out_d_n1, f.shared + 44);
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
  entry* call = room.call.get(56 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 96 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = room.own[me].get(136);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 72;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 36 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    long run = 16;
    while (run * run < end - start) run *= 2;
    for (long turn = start; turn < end; turn++) {
      if (turn > start && (turn - start) % run == 0) {
        // What a run of blocks added up to is carried to sums of its own: short sums keep digits.
        entry* carried = own + 36;
        if (turn - start == run) memset((void*)carried, 0, 36 * sizeof(entry));
        for (size_t at = 0; at < 36; at++) carried[at] += own[at];
        memset((void*)own, 0, 36 * sizeof(entry));
      }
      const long block = blocks - 1 - turn, next = turn + 1 < end ? block - 1 : block;
      f.g = whole.g + (size_t)block * 12;
      f.x0 = whole.x0 + (size_t)block * 12;
      f.out_d_x0 = whole.out_d_x0 + (size_t)block * 12;
      const size_t valid = batch - block * 4;
      if (valid < 4) {
        entry* room = own + ROOM;
        memcpy((void*)(room + 0), f.g, valid * sizeof(entry) * 3);
        memset((void*)(room + 0 + valid * 3), 0, (4 - valid) * sizeof(entry) * 3);
        f.g = room + 0;
        memcpy((void*)(room + 12), f.x0, valid * sizeof(entry) * 3);
        memset((void*)(room + 12 + valid * 3), 0, (4 - valid) * sizeof(entry) * 3);
        f.x0 = room + 12;
        entry* out_out_d_x0 = f.out_d_x0;
        f.out_d_x0 = room + 24;
        backward_samples(f);
        memcpy((void*)out_out_d_x0, room + 24, valid * sizeof(entry) * 3);
        // Of a sample that is missing, 0 x inf must be in no sum.
        for (size_t at = 0; at < 36; at += W)
          for (size_t j = valid; j < W; j++) f.partial[at + j] = entry{};
        continue;
      }
      backward_samples(f);
    }
    if (end - start > run)
      for (size_t at = 0; at < 36; at++) own[at] += own[36 + at];
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
