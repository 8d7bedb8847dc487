
// t0 = n2 x n3, sum e10
STEP forward_before0_t0(const entry* __restrict n2, const entry* __restrict n3, entry* __restrict t0) {
  { const entry *a = n3; const entry *b = n2; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y0_4, y0_5, y0_6, y0_7; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 4); y0_1 = g * x0; } { const vec g = splat(b + 8); y0_2 = g * x0; } { const vec g = splat(b + 12); y0_3 = g * x0; } { const vec g = splat(b + 2); y0_4 = g * x0; } { const vec g = splat(b + 6); y0_5 = g * x0; } { const vec g = splat(b + 10); y0_6 = g * x0; } { const vec g = splat(b + 14); y0_7 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 9); y0_2 += g * x0; } { const vec g = splat(b + 13); y0_3 += g * x0; } { const vec g = splat(b + 3); y0_4 += g * x0; } { const vec g = splat(b + 7); y0_5 += g * x0; } { const vec g = splat(b + 11); y0_6 += g * x0; } { const vec g = splat(b + 15); y0_7 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); store(c + 16, y0_4); store(c + 20, y0_5); store(c + 24, y0_6); store(c + 28, y0_7); }
}

// t1 = n1 x n0, sum e8
STEP forward_before1_t1(const entry* __restrict n0, const entry* __restrict n1, entry* __restrict t1) {
  { const entry *a = n1; const entry *b = n0; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 4); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 2); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 6); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 12); { const vec g = splat(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 3); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 7); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 16, y0_2); store(c + 20, y0_3);
    store(c + 8, y1_0); store(c + 12, y1_1); store(c + 24, y1_2); store(c + 28, y1_3); }
}

// t0 to lanes e6 e7
STEP forward_before2_t0_l(const entry* __restrict t0, entry* __restrict t0_l) {
  for (int i0 = 0; i0 < 4; i0++) {
    { const entry* a = t0 + i0 * 4; entry* c = t0_l + i0 * 8;
      const reg r0 = part<4>((const real*)(a + 0) + 0);
      const reg r1 = part<4>((const real*)(a + 16) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 1, 4, 5);
      const reg r3 = SHUFFLE(r0, r1, 2, 3, 6, 7);
      put<4>((real*)(c + 0) + 0, r2);
      put<4>((real*)(c + 4) + 0, r3);
    }
  }
}

// t2 = x0 x t1, sum e0 e1
STEP forward_samples0_t2(const entry* __restrict x0, const entry* __restrict t1, entry* __restrict t2) {
  { const entry *a = x0; const entry *b = t1; entry *c = t2;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y0_4, y0_5, y0_6, y0_7; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 16); y0_2 = g * x0; } { const vec g = splat(b + 17); y0_3 = g * x0; } { const vec g = splat(b + 2); y0_4 = g * x0; } { const vec g = splat(b + 3); y0_5 = g * x0; } { const vec g = splat(b + 18); y0_6 = g * x0; } { const vec g = splat(b + 19); y0_7 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } { const vec g = splat(b + 24); y0_2 += g * x0; } { const vec g = splat(b + 25); y0_3 += g * x0; } { const vec g = splat(b + 10); y0_4 += g * x0; } { const vec g = splat(b + 11); y0_5 += g * x0; } { const vec g = splat(b + 26); y0_6 += g * x0; } { const vec g = splat(b + 27); y0_7 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 20); y0_2 += g * x0; } { const vec g = splat(b + 21); y0_3 += g * x0; } { const vec g = splat(b + 6); y0_4 += g * x0; } { const vec g = splat(b + 7); y0_5 += g * x0; } { const vec g = splat(b + 22); y0_6 += g * x0; } { const vec g = splat(b + 23); y0_7 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 12); y0_0 += g * x0; } { const vec g = splat(b + 13); y0_1 += g * x0; } { const vec g = splat(b + 28); y0_2 += g * x0; } { const vec g = splat(b + 29); y0_3 += g * x0; } { const vec g = splat(b + 14); y0_4 += g * x0; } { const vec g = splat(b + 15); y0_5 += g * x0; } { const vec g = splat(b + 30); y0_6 += g * x0; } { const vec g = splat(b + 31); y0_7 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); store(c + 16, y0_4); store(c + 20, y0_5); store(c + 24, y0_6); store(c + 28, y0_7); }
}

// t3 = t2 x t0, sum e9 e2 e3
STEP forward_samples1_t3(entry* __restrict out_y, const entry* __restrict t0_l, const entry* __restrict t2) {
  { const entry *a = t0_l; const entry *b = t2; entry *c = out_y;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 16); y0_1 = g * x0; } { const vec g = splat(b + 8); y0_2 = g * x0; } { const vec g = splat(b + 24); y0_3 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 17); y0_1 += g * x0; } { const vec g = splat(b + 9); y0_2 += g * x0; } { const vec g = splat(b + 25); y0_3 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 18); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } { const vec g = splat(b + 26); y0_3 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 3); y0_0 += g * x0; } { const vec g = splat(b + 19); y0_1 += g * x0; } { const vec g = splat(b + 11); y0_2 += g * x0; } { const vec g = splat(b + 27); y0_3 += g * x0; } }
    { const vec x0 = load(a + 16); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 20); y0_1 += g * x0; } { const vec g = splat(b + 12); y0_2 += g * x0; } { const vec g = splat(b + 28); y0_3 += g * x0; } }
    { const vec x0 = load(a + 20); { const vec g = splat(b + 5); y0_0 += g * x0; } { const vec g = splat(b + 21); y0_1 += g * x0; } { const vec g = splat(b + 13); y0_2 += g * x0; } { const vec g = splat(b + 29); y0_3 += g * x0; } }
    { const vec x0 = load(a + 24); { const vec g = splat(b + 6); y0_0 += g * x0; } { const vec g = splat(b + 22); y0_1 += g * x0; } { const vec g = splat(b + 14); y0_2 += g * x0; } { const vec g = splat(b + 30); y0_3 += g * x0; } }
    { const vec x0 = load(a + 28); { const vec g = splat(b + 7); y0_0 += g * x0; } { const vec g = splat(b + 23); y0_1 += g * x0; } { const vec g = splat(b + 15); y0_2 += g * x0; } { const vec g = splat(b + 31); y0_3 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); }
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
  forward_before0_t0(f.n2, f.n3, f.shared + 0);
  forward_before1_t1(f.n0, f.n1, f.shared + 32);
  forward_before2_t0_l(f.shared + 0, f.shared + 64);
}

STEP forward_samples(const forward_frame& f) {
  forward_samples0_t2(f.x0, f.shared + 32, f.thread + 0);
  forward_samples1_t3(f.out_y, f.shared + 64, f.thread + 0);
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
  entry* call = room.call.get(100 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  forward_before(whole);
  int failed = 0;
  enum { ROOM = 32 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    forward_frame f = whole;
    entry* own = room.own[me].get(36);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 0;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 0 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    for (long turn = start; turn < end; turn++) {
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.x0 = whole.x0 + (size_t)block * 16;
      f.out_y = whole.out_y + (size_t)block * 16;

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


// t0 = n2 x n3, sum e10
STEP backward_before0_t0(const entry* __restrict n2, const entry* __restrict n3, entry* __restrict t0) {
  { const entry *a = n3; const entry *b = n2; entry *c = t0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y0_4, y0_5, y0_6, y0_7; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 2); y0_1 = g * x0; } { const vec g = splat(b + 4); y0_2 = g * x0; } { const vec g = splat(b + 6); y0_3 = g * x0; } { const vec g = splat(b + 8); y0_4 = g * x0; } { const vec g = splat(b + 10); y0_5 = g * x0; } { const vec g = splat(b + 12); y0_6 = g * x0; } { const vec g = splat(b + 14); y0_7 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } { const vec g = splat(b + 5); y0_2 += g * x0; } { const vec g = splat(b + 7); y0_3 += g * x0; } { const vec g = splat(b + 9); y0_4 += g * x0; } { const vec g = splat(b + 11); y0_5 += g * x0; } { const vec g = splat(b + 13); y0_6 += g * x0; } { const vec g = splat(b + 15); y0_7 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); store(c + 16, y0_4); store(c + 20, y0_5); store(c + 24, y0_6); store(c + 28, y0_7); }
}

// t1 = n1 x n0, sum e8
STEP backward_before1_t1(const entry* __restrict n0, const entry* __restrict n1, entry* __restrict t1) {
  { const entry *a = n1; const entry *b = n0; entry *c = t1;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 4); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 2); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 6); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 12); { const vec g = splat(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 3); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 7); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 16, y0_2); store(c + 20, y0_3);
    store(c + 8, y1_0); store(c + 12, y1_1); store(c + 24, y1_2); store(c + 28, y1_3); }
}

// t0 to lanes e2 e3
STEP backward_before2_t0_l(const entry* __restrict t0, entry* __restrict t0_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    for (int i1 = 0; i1 < 2; i1++) {
      { const entry* a = t0 + i0 * 16 + i1 * 4; entry* c = t0_l + i0 * 16 + i1 * 8;
        const reg r0 = part<4>((const real*)(a + 0) + 0);
        const reg r1 = part<4>((const real*)(a + 8) + 0);
        const reg r2 = SHUFFLE(r0, r1, 0, 2, 4, 6);
        const reg r3 = SHUFFLE(r0, r1, 1, 3, 5, 7);
        put<4>((real*)(c + 0) + 0, r2);
        put<4>((real*)(c + 4) + 0, r3);
      }
    }
  }
}

// t2 = x0 x t1, sum e0 e1
STEP backward_samples0_t2(const entry* __restrict x0, const entry* __restrict t1, entry* __restrict t2) {
  { const entry *a = x0; const entry *b = t1; entry *c = t2;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y0_4, y0_5, y0_6, y0_7; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 16); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } { const vec g = splat(b + 18); y0_3 = g * x0; } { const vec g = splat(b + 1); y0_4 = g * x0; } { const vec g = splat(b + 17); y0_5 = g * x0; } { const vec g = splat(b + 3); y0_6 = g * x0; } { const vec g = splat(b + 19); y0_7 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 24); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } { const vec g = splat(b + 26); y0_3 += g * x0; } { const vec g = splat(b + 9); y0_4 += g * x0; } { const vec g = splat(b + 25); y0_5 += g * x0; } { const vec g = splat(b + 11); y0_6 += g * x0; } { const vec g = splat(b + 27); y0_7 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 20); y0_1 += g * x0; } { const vec g = splat(b + 6); y0_2 += g * x0; } { const vec g = splat(b + 22); y0_3 += g * x0; } { const vec g = splat(b + 5); y0_4 += g * x0; } { const vec g = splat(b + 21); y0_5 += g * x0; } { const vec g = splat(b + 7); y0_6 += g * x0; } { const vec g = splat(b + 23); y0_7 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 12); y0_0 += g * x0; } { const vec g = splat(b + 28); y0_1 += g * x0; } { const vec g = splat(b + 14); y0_2 += g * x0; } { const vec g = splat(b + 30); y0_3 += g * x0; } { const vec g = splat(b + 13); y0_4 += g * x0; } { const vec g = splat(b + 29); y0_5 += g * x0; } { const vec g = splat(b + 15); y0_6 += g * x0; } { const vec g = splat(b + 31); y0_7 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); store(c + 16, y0_4); store(c + 20, y0_5); store(c + 24, y0_6); store(c + 28, y0_7); }
}

// d_t0 = g x t2, sum b e4 e5
STEP backward_samples1_d_t0(const entry* __restrict g, entry* __restrict d_t0_p, const entry* __restrict t2) {
  { const entry *a = g; const entry *b = t2; entry *c = d_t0_p;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y0_4, y0_5, y0_6, y0_7; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } { const vec g = splat(b + 2); y0_2 = g * x0; } { const vec g = splat(b + 3); y0_3 = g * x0; } { const vec g = splat(b + 16); y0_4 = g * x0; } { const vec g = splat(b + 17); y0_5 = g * x0; } { const vec g = splat(b + 18); y0_6 = g * x0; } { const vec g = splat(b + 19); y0_7 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } { const vec g = splat(b + 10); y0_2 += g * x0; } { const vec g = splat(b + 11); y0_3 += g * x0; } { const vec g = splat(b + 24); y0_4 += g * x0; } { const vec g = splat(b + 25); y0_5 += g * x0; } { const vec g = splat(b + 26); y0_6 += g * x0; } { const vec g = splat(b + 27); y0_7 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } { const vec g = splat(b + 6); y0_2 += g * x0; } { const vec g = splat(b + 7); y0_3 += g * x0; } { const vec g = splat(b + 20); y0_4 += g * x0; } { const vec g = splat(b + 21); y0_5 += g * x0; } { const vec g = splat(b + 22); y0_6 += g * x0; } { const vec g = splat(b + 23); y0_7 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 12); y0_0 += g * x0; } { const vec g = splat(b + 13); y0_1 += g * x0; } { const vec g = splat(b + 14); y0_2 += g * x0; } { const vec g = splat(b + 15); y0_3 += g * x0; } { const vec g = splat(b + 28); y0_4 += g * x0; } { const vec g = splat(b + 29); y0_5 += g * x0; } { const vec g = splat(b + 30); y0_6 += g * x0; } { const vec g = splat(b + 31); y0_7 += g * x0; } }
    store(c + 0, y0_0 + load(c + 0)); store(c + 4, y0_1 + load(c + 4)); store(c + 8, y0_2 + load(c + 8)); store(c + 12, y0_3 + load(c + 12)); store(c + 16, y0_4 + load(c + 16)); store(c + 20, y0_5 + load(c + 20)); store(c + 24, y0_6 + load(c + 24)); store(c + 28, y0_7 + load(c + 28)); }
}

// d_t2 = g x t0, sum e6 e7
STEP backward_samples2_d_t2(const entry* __restrict g, const entry* __restrict t0_l, entry* __restrict d_t2) {
  { const entry *a = t0_l; const entry *b = g; entry *c = d_t2;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 16); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 8); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = splat(b + 4); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = splat(b + 12); y0_3 = g * x0; y1_3 = g * x1; } }
    { const vec x0 = load(a + 4), x1 = load(a + 20); { const vec g = splat(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 9); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 5); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 13); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 24); { const vec g = splat(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 10); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 6); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 14); y0_3 += g * x0; y1_3 += g * x1; } }
    { const vec x0 = load(a + 12), x1 = load(a + 28); { const vec g = splat(b + 3); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 11); y0_1 += g * x0; y1_1 += g * x1; } { const vec g = splat(b + 7); y0_2 += g * x0; y1_2 += g * x1; } { const vec g = splat(b + 15); y0_3 += g * x0; y1_3 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 16, y0_2); store(c + 20, y0_3);
    store(c + 8, y1_0); store(c + 12, y1_1); store(c + 24, y1_2); store(c + 28, y1_3); }
}

// d_t1 = d_t2 x x0, sum b e2 e3
STEP backward_samples3_d_t1(const entry* __restrict x0, entry* __restrict d_t1_p, const entry* __restrict d_t2) {
  for (int i0 = 0; i0 < 4; i0++) {
    { const entry *a = d_t2 + i0 * 8; const entry *b = x0; entry *c = d_t1_p + i0 * 16;
      vec y0_0, y0_1, y0_2, y0_3, y1_0, y1_1, y1_2, y1_3; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = load(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = load(b + 8); y0_1 = g * x0; y1_1 = g * x1; } { const vec g = load(b + 4); y0_2 = g * x0; y1_2 = g * x1; } { const vec g = load(b + 12); y0_3 = g * x0; y1_3 = g * x1; } }
      store(c + 0, y0_0 + load(c + 0)); store(c + 8, y0_1 + load(c + 8)); store(c + 64, y0_2 + load(c + 64)); store(c + 72, y0_3 + load(c + 72));
      store(c + 4, y1_0 + load(c + 4)); store(c + 12, y1_1 + load(c + 12)); store(c + 68, y1_2 + load(c + 68)); store(c + 76, y1_3 + load(c + 76)); }
  }
}

// d_x0 = d_t2 x t1, sum e5 e9 e4
STEP backward_samples4_d_x0(entry* __restrict out_d_x0, const entry* __restrict t1, const entry* __restrict d_t2) {
  { const entry *a = d_t2; const entry *b = t1; entry *c = out_d_x0;
    READ_ANEW(a, b);
    vec y0_0, y0_1, y0_2, y0_3; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 8); y0_1 = g * x0; } { const vec g = splat(b + 4); y0_2 = g * x0; } { const vec g = splat(b + 12); y0_3 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 16); y0_0 += g * x0; } { const vec g = splat(b + 24); y0_1 += g * x0; } { const vec g = splat(b + 20); y0_2 += g * x0; } { const vec g = splat(b + 28); y0_3 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } { const vec g = splat(b + 5); y0_2 += g * x0; } { const vec g = splat(b + 13); y0_3 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 17); y0_0 += g * x0; } { const vec g = splat(b + 25); y0_1 += g * x0; } { const vec g = splat(b + 21); y0_2 += g * x0; } { const vec g = splat(b + 29); y0_3 += g * x0; } }
    { const vec x0 = load(a + 16); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 10); y0_1 += g * x0; } { const vec g = splat(b + 6); y0_2 += g * x0; } { const vec g = splat(b + 14); y0_3 += g * x0; } }
    { const vec x0 = load(a + 20); { const vec g = splat(b + 18); y0_0 += g * x0; } { const vec g = splat(b + 26); y0_1 += g * x0; } { const vec g = splat(b + 22); y0_2 += g * x0; } { const vec g = splat(b + 30); y0_3 += g * x0; } }
    { const vec x0 = load(a + 24); { const vec g = splat(b + 3); y0_0 += g * x0; } { const vec g = splat(b + 11); y0_1 += g * x0; } { const vec g = splat(b + 7); y0_2 += g * x0; } { const vec g = splat(b + 15); y0_3 += g * x0; } }
    { const vec x0 = load(a + 28); { const vec g = splat(b + 19); y0_0 += g * x0; } { const vec g = splat(b + 27); y0_1 += g * x0; } { const vec g = splat(b + 23); y0_2 += g * x0; } { const vec g = splat(b + 31); y0_3 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); store(c + 8, y0_2); store(c + 12, y0_3); }
}

// d_t0 summed up
STEP backward_after0_d_t0_s(entry* const* partials, int team, size_t at_d_t0_p, entry* __restrict d_t0) {
  memset((void*)(d_t0), 0, 32 * sizeof(entry));
  for (int i0 = 0; i0 < 2; i0++) {
    for (int i1 = 0; i1 < 4; i1++) {
      {
        const size_t at = at_d_t0_p + i0 * 4 + i1 * 8;
        vec v = load(partials[0] + at);
        for (int t = 1; t < team; t++) v += load(partials[t] + at);
        v += load(d_t0 + i0 * 16 + i1 * 4);
        store(d_t0 + i0 * 16 + i1 * 4, v);
      }
    }
  }
}

// d_t1 summed up
STEP backward_after1_d_t1_s(entry* const* partials, int team, size_t at_d_t1_p, entry* __restrict d_t1) {
  memset((void*)(d_t1), 0, 32 * sizeof(entry));
  for (int i0 = 0; i0 < 4; i0++) {
    for (int i1 = 0; i1 < 8; i1++) {
      {
        const size_t at = at_d_t1_p + i0 * 4 + i1 * 16;
        vec v = load(partials[0] + at);
        for (int t = 1; t < team; t++) v += load(partials[t] + at);
        *(d_t1 + i0 * 8 + i1 * 1) += sum(v);
      }
    }
  }
}

// d_t1 to lanes e0 e4
STEP backward_after2_d_t1_l(const entry* __restrict d_t1, entry* __restrict d_t1_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 4, 8, 12}; static const int since[] = {0, 8, 16, 24};
      transpose<4, 4, false>(d_t1_l + i0 * 16, to, d_t1 + i0 * 4, since); }
  }
}

// d_n0 = d_t1 x n1, sum e1 e5 e9
STEP backward_after3_d_n0(const entry* __restrict n1, const entry* __restrict d_t1_l, entry* __restrict d_n0) {
  { const entry *a = d_t1_l; const entry *b = n1; entry *c = d_n0;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 8); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 1); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 10); y0_1 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 3); y0_0 += g * x0; } { const vec g = splat(b + 11); y0_1 += g * x0; } }
    { const vec x0 = load(a + 16); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 12); y0_1 += g * x0; } }
    { const vec x0 = load(a + 20); { const vec g = splat(b + 5); y0_0 += g * x0; } { const vec g = splat(b + 13); y0_1 += g * x0; } }
    { const vec x0 = load(a + 24); { const vec g = splat(b + 6); y0_0 += g * x0; } { const vec g = splat(b + 14); y0_1 += g * x0; } }
    { const vec x0 = load(a + 28); { const vec g = splat(b + 7); y0_0 += g * x0; } { const vec g = splat(b + 15); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_n1 = d_t1 x n0, sum e0 e4
STEP backward_after4_d_n1(const entry* __restrict n0, entry* __restrict out_d_n1, const entry* __restrict d_t1) {
  { const entry *a = d_t1; const entry *b = n0; entry *c = out_d_n1;
    vec y0_0, y0_1, y1_0, y1_1; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 1); y0_1 = g * x0; y1_1 = g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 12); { const vec g = splat(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 3); y0_1 += g * x0; y1_1 += g * x1; } }
    { const vec x0 = load(a + 16), x1 = load(a + 20); { const vec g = splat(b + 4); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } }
    { const vec x0 = load(a + 24), x1 = load(a + 28); { const vec g = splat(b + 6); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 7); y0_1 += g * x0; y1_1 += g * x1; } }
    store(c + 0, y0_0); store(c + 8, y0_1);
    store(c + 4, y1_0); store(c + 12, y1_1); }
}

// d_t0 to lanes e3 e7
STEP backward_after5_d_t0_l(const entry* __restrict d_t0, entry* __restrict d_t0_l) {
  for (int i0 = 0; i0 < 4; i0++) {
    { const entry* a = d_t0 + i0 * 4; entry* c = d_t0_l + i0 * 8;
      const reg r0 = part<4>((const real*)(a + 0) + 0);
      const reg r1 = part<4>((const real*)(a + 16) + 0);
      const reg r2 = SHUFFLE(r0, r1, 0, 1, 4, 5);
      const reg r3 = SHUFFLE(r0, r1, 2, 3, 6, 7);
      put<4>((real*)(c + 0) + 0, r2);
      put<4>((real*)(c + 4) + 0, r3);
    }
  }
}

// d_n3 = d_t0 x n2, sum e9 e2 e6
STEP backward_after6_d_n3(const entry* __restrict n2, entry* __restrict out_d_n3, const entry* __restrict d_t0_l) {
  { const entry *a = d_t0_l; const entry *b = n2; entry *c = out_d_n3;
    READ_ANEW(a, b);
    vec y0_0, y0_1; { const vec x0 = load(a + 0); { const vec g = splat(b + 0); y0_0 = g * x0; } { const vec g = splat(b + 1); y0_1 = g * x0; } }
    { const vec x0 = load(a + 4); { const vec g = splat(b + 2); y0_0 += g * x0; } { const vec g = splat(b + 3); y0_1 += g * x0; } }
    { const vec x0 = load(a + 8); { const vec g = splat(b + 4); y0_0 += g * x0; } { const vec g = splat(b + 5); y0_1 += g * x0; } }
    { const vec x0 = load(a + 12); { const vec g = splat(b + 6); y0_0 += g * x0; } { const vec g = splat(b + 7); y0_1 += g * x0; } }
    { const vec x0 = load(a + 16); { const vec g = splat(b + 8); y0_0 += g * x0; } { const vec g = splat(b + 9); y0_1 += g * x0; } }
    { const vec x0 = load(a + 20); { const vec g = splat(b + 10); y0_0 += g * x0; } { const vec g = splat(b + 11); y0_1 += g * x0; } }
    { const vec x0 = load(a + 24); { const vec g = splat(b + 12); y0_0 += g * x0; } { const vec g = splat(b + 13); y0_1 += g * x0; } }
    { const vec x0 = load(a + 28); { const vec g = splat(b + 14); y0_0 += g * x0; } { const vec g = splat(b + 15); y0_1 += g * x0; } }
    store(c + 0, y0_0); store(c + 4, y0_1); }
}

// d_t0 to lanes e9 e2
STEP backward_after7_d_t0_l_l(const entry* __restrict d_t0, entry* __restrict d_t0_l_l) {
  for (int i0 = 0; i0 < 2; i0++) {
    { static const int to[] = {0, 8, 4, 12}; static const int since[] = {0, 4, 8, 12};
      transpose<4, 4, false>(d_t0_l_l + i0 * 16, to, d_t0 + i0 * 16, since); }
  }
}

// d_n2 = d_t0 x n3, sum e3 e7
STEP backward_after8_d_n2(const entry* __restrict n3, const entry* __restrict d_t0_l_l, entry* __restrict d_n2) {
  { const entry *a = d_t0_l_l; const entry *b = n3; entry *c = d_n2;
    vec y0_0, y0_1, y1_0, y1_1; { const vec x0 = load(a + 0), x1 = load(a + 4); { const vec g = splat(b + 0); y0_0 = g * x0; y1_0 = g * x1; } { const vec g = splat(b + 4); y0_1 = g * x0; y1_1 = g * x1; } }
    { const vec x0 = load(a + 8), x1 = load(a + 12); { const vec g = splat(b + 1); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 5); y0_1 += g * x0; y1_1 += g * x1; } }
    { const vec x0 = load(a + 16), x1 = load(a + 20); { const vec g = splat(b + 2); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 6); y0_1 += g * x0; y1_1 += g * x1; } }
    { const vec x0 = load(a + 24), x1 = load(a + 28); { const vec g = splat(b + 3); y0_0 += g * x0; y1_0 += g * x1; } { const vec g = splat(b + 7); y0_1 += g * x0; y1_1 += g * x1; } }
    store(c + 0, y0_0); store(c + 4, y0_1);
    store(c + 8, y1_0); store(c + 12, y1_1); }
}

// d_n0 leaves
STEP backward_after9_out_d_n0(entry* __restrict out_d_n0, const entry* __restrict d_n0) {
  { const entry* a = d_n0; entry* c = out_d_n0;
    const reg r0 = part<4>((const real*)(a + 0) + 0);
    const reg r1 = part<4>((const real*)(a + 4) + 0);
    const reg r2 = SHUFFLE(r0, r1, 0, 4, 1, 5);
    const reg r3 = SHUFFLE(r0, r1, 2, 6, 3, 7);
    put<4>((real*)(c + 0) + 0, r2);
    put<4>((real*)(c + 4) + 0, r3);
  }
}

// d_n2 leaves
STEP backward_after10_out_d_n2(entry* __restrict out_d_n2, const entry* __restrict d_n2) {
  { static const int to[] = {0, 4, 8, 12}; static const int since[] = {0, 4, 8, 12};
    transpose<4, 4, false>(out_d_n2, to, d_n2, since); }
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
  backward_before0_t0(f.n2, f.n3, f.shared + 0);
  backward_before1_t1(f.n0, f.n1, f.shared + 32);
  backward_before2_t0_l(f.shared + 0, f.shared + 96);
}

STEP backward_samples(const backward_frame& f) {
  backward_samples0_t2(f.x0, f.shared + 32, f.thread + 0);
  backward_samples1_d_t0(f.g, f.partial + 0, f.thread + 0);
  backward_samples2_d_t2(f.g, f.shared + 96, f.thread + 0);
  backward_samples3_d_t1(f.x0, f.partial + 32, f.thread + 0);
  backward_samples4_d_x0(f.out_d_x0, f.shared + 32, f.thread + 0);
}

STEP backward_after(const backward_frame& f) {
  backward_after0_d_t0_s(f.partials, f.team, 0, f.shared + 64);
  backward_after1_d_t1_s(f.partials, f.team, 32, f.shared + 128);
  backward_after2_d_t1_l(f.shared + 128, f.shared + 160);
  backward_after3_d_n0(f.n1, f.shared + 160, f.shared + 192);
  backward_after4_d_n1(f.n0, f.out_d_n1, f.shared + 128);
  backward_after5_d_t0_l(f.shared + 64, f.shared + 200);
  backward_after6_d_n3(f.n2, f.out_d_n3, f.shared + 200);
  backward_after7_d_t0_l_l(f.shared + 64, f.shared + 232);
  backward_after8_d_n2(f.n3, f.shared + 232, f.shared + 264);
  backward_after9_out_d_n0(f.out_d_n0, f.shared + 192);
  backward_after10_out_d_n2(f.out_d_n2, f.shared + 264);
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
  entry* call = room.call.get(284 + lines * (64 / sizeof(entry)));
  if (!call) return 1;
  whole.partials = (entry**)call;
  whole.shared = call + lines * (64 / sizeof(entry));
  int team = 1;
  backward_before(whole);
  int failed = 0;
  enum { ROOM = 352 };
  #pragma omp parallel num_threads(threads) if (threads > 1) reduction(|: failed)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    backward_frame f = whole;
    entry* own = room.own[me].get(356);
    if (!own) failed = 1;
    f.partial = own;
    f.thread = own + 320;
    whole.partials[me] = own;
    if (own) memset((void*)own, 0, 160 * sizeof(entry));
    const long count = omp_get_num_threads(), end = failed ? 0 : blocks * (me + 1) / count;
    const long start = blocks * me / count;
    long run = 32;
    while (run * run < end - start) run *= 2;
    for (long turn = start; turn < end; turn++) {
      if (turn > start && (turn - start) % run == 0) {
        // What a run of blocks added up to is carried to sums of its own: short sums keep digits.
        entry* carried = own + 160;
        if (turn - start == run) memset((void*)carried, 0, 160 * sizeof(entry));
        for (size_t at = 0; at < 160; at++) carried[at] += own[at];
        memset((void*)own, 0, 160 * sizeof(entry));
      }
      const long block = turn, next = turn + 1 < end ? block + 1 : block;
      f.g = whole.g + (size_t)block * 16;
      f.x0 = whole.x0 + (size_t)block * 16;
      f.out_d_x0 = whole.out_d_x0 + (size_t)block * 16;

      backward_samples(f);
    }
    if (end - start > run)
      for (size_t at = 0; at < 160; at++) own[at] += own[160 + at];
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
