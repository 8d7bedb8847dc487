
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
