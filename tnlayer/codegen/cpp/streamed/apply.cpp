
// -- y = x W --------------------------------------------------------------------------------------

// x[sample, a1, a2] as the product reads it: [panel][tile of a][k][row].
static void pack_rows(const entry* x, entry* packed, long batch, const Factors& f, const Tiles& t,
                      long rows) {
  const long width = f.a1 * f.a2, panels = divided(batch, rows);
#pragma omp for schedule(static)
  for (long panel = 0; panel < panels; panel++) {
    const long from = panel * rows, count = least(rows, batch - from);
    entry* to = packed + from * width;
    for (long a1 = 0; a1 < f.a1; a1 += t.a1)
      for (long a2 = 0; a2 < f.a2; a2 += t.a2)
        for (long i = a1; i < least(a1 + t.a1, f.a1); i++)
          for (long j = a2; j < least(a2 + t.a2, f.a2); j++)
            for (long m = 0; m < count; m++) *to++ = x[(from + m) * width + i * f.a2 + j];
  }
}
// right[s, a2, b2] as vectors over b2: [a2][vector][s][lane], zeros behind the last entry.
static void pack_right(const Factors& f, entry* packed) {
  const long vectors = divided(f.b2, W);
#pragma omp for schedule(static)
  for (long j = 0; j < f.a2; j++)
    for (long v = 0; v < vectors; v++)
      for (long s = 0; s < f.s; s++)
        for (long b = v * W; b < v * W + W; b++)
          packed[((j * vectors + v) * f.s + s) * W + b - v * W] =
              b < f.b2 ? f.right[s * f.right_s + j * f.right_a + b * f.right_b] : entry{};
}

// Where columns lie in a tile, and in y: in runs of neighbours, one for all of b1 or one for each.
struct Columns {
  long runs, length, pitch, inner;
};
static Columns columns_of(long b1, long b2, bool is_whole) {
  Columns c;
  c.runs = is_whole ? 1 : b1;
  c.length = is_whole ? b1 * b2 : b2;
  c.pitch = filled(c.length);
  c.inner = is_whole ? b2 : c.pitch;
  return c;
}
// The part of W that a tile holds, from where and how much of each leg.
struct Part {
  long a1, n1, a2, n2, b1, m1, b2, m2;
};

// A tile of W: [k = (a1 a2)][columns].
STEP make_tile(const Factors& f, const Part& p, const Columns& c, const entry* right,
                      entry* tile) {
  const long vectors = divided(f.b2, W), step = c.runs * c.pitch, pairs = p.n1 * p.m1;
  const long own = divided(p.m2, W), products = p.n2 * own;
  for (long from = 0; from < pairs; from += FEW_ROWS) {
    const entry* rows[FEW_ROWS];
    entry* places[FEW_ROWS];
    for (long m = 0; m < FEW_ROWS; m++) {
      const long pair = least(from + m, pairs - 1);  // the last one again and again
      rows[m] = f.left + f.left_at(p.a1 + pair / p.m1, p.b1 + pair % p.m1);
      places[m] = tile + pair / p.m1 * p.n2 * step + pair % p.m1 * c.inner;
    }
    // Two vectors at once, of one index of a2 or of two.
    for (long q = 0; q < products; q += 2) {
      const entry* sources[2];
      long at[2], valid[2];
      for (long e = 0; e < 2; e++) {
        const long j = least(q + e, products - 1) / own, v = least(q + e, products - 1) % own;
        sources[e] = right + ((p.a2 + j) * vectors + p.b2 / W + v) * f.s * W;
        at[e] = j * step + v * W;
        valid[e] = p.m2 - v * W;
      }
      vec sums[FEW_ROWS][2] = {};
      multiply_two<FEW_ROWS>(sums, rows, sources[0], sources[1], f.s);
      for (int m = 0; m < FEW_ROWS; m++) {
        store_some(places[m] + at[0], sums[m][0], valid[0]);
        store_some(places[m] + at[1], sums[m][1], valid[1]);
      }
    }
  }
}

static void multiply(const Factors& f, const Tiles& t, const entry* x, const entry* right, entry* y,
                     long batch, long rows, entry* tile) {
  const long width = f.b1 * f.b2, depth = f.a1 * f.a2, panels = divided(batch, rows);
  const long across = divided(f.b2, t.b2), blocks = divided(f.b1, t.b1) * across;
#pragma omp for schedule(static)
  for (long block = 0; block < blocks; block++) {
    Part p;
    p.b1 = block / across * t.b1, p.b2 = block % across * t.b2;
    p.m1 = least(t.b1, f.b1 - p.b1), p.m2 = least(t.b2, f.b2 - p.b2);
    const Columns c = columns_of(p.m1, p.m2, t.b2 == f.b2);
    long done = 0;
    for (p.a1 = 0; p.a1 < f.a1; p.a1 += t.a1)
      for (p.a2 = 0; p.a2 < f.a2; p.a2 += t.a2) {
        p.n1 = least(t.a1, f.a1 - p.a1), p.n2 = least(t.a2, f.a2 - p.a2);
        const long k = p.n1 * p.n2, step = c.runs * c.pitch;
        make_tile(f, p, c, right, tile);
        for (long run = 0; run < c.runs; run++)
          for (long at = 0; at < c.length; at += 2 * W) {
            const long valid = c.length - at;
            const entry* from = tile + run * c.pitch + at;
            entry* to = y + (p.b1 + run) * f.b2 + p.b2 + at;
            for (long panel = 0; panel < panels; panel++) {
              const long first = panel * rows, count = least(rows, batch - first);
              const entry* own = x + first * depth + done * count;
              entry* target = to + first * width;
              if (valid > W)
                ByRows<2>::times_tile(count, own, from, step, k, target, width, valid - W,
                                      done == 0);
              else
                ByRows<1>::times_tile(count, own, from, step, k, target, width, valid, done == 0);
            }
          }
        done += k;
      }
  }
}

static int apply(const Factors& f, const entry* x, entry* y, long batch, int threads) {
  const Tiles t = product_tiles(f);
  const long rows = panel_rows(batch), size = batch * f.a1 * f.a2;
  const Columns c = columns_of(t.b1, t.b2, t.b2 == f.b2);
  // The last vector of a ragged row of a tile may end behind it.
  const long own = t.a1 * t.a2 * c.runs * c.pitch + W;
  Room* room = room_for(threads, size + f.a2 * filled(f.b2) * f.s, own);
  if (!room) return 1;
  entry *packed = room->call.get(0), *right = packed + size;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    pack_rows(x, packed, batch, f, t, rows);
    pack_right(f, right);
    multiply(f, t, packed, right, y, batch, rows, room->own[omp_get_thread_num()].get(0));
  }
  leave_room(room);
  return 0;
}
