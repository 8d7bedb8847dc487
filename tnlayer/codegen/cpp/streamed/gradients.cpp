
// -- gradients of left and right, from tiles of the gradient of W ---------------------------------

// The part of W that a tile holds; columns in vectors, each row of b2 filled up to whole ones.
struct Block {
  long a1, n1, a2, n2, b1, m1, v, nv;
  // Entries of one row (a1 b1) of the tile.
  long row() const { return n2 * nv * W; }
};

// x[sample, a1, a2] as the product reads it: [tile of a][panel][sample][row].
static void pack_columns(const entry* x, entry* packed, long batch, const Factors& f,
                         const Tiles& t) {
  const long width = f.a1 * f.a2, across = divided(f.a2, t.a2);
  const long blocks = divided(f.a1, t.a1) * across;
#pragma omp for schedule(static)
  for (long block = 0; block < blocks; block++) {
    const long a1 = block / across * t.a1, a2 = block % across * t.a2;
    const long n1 = least(t.a1, f.a1 - a1), n2 = least(t.a2, f.a2 - a2), n = n1 * n2;
    const long rows = panel_rows(n);
    entry* to = packed + batch * (a1 * f.a2 + n1 * a2);
    for (long from = 0; from < n; from += rows)
      for (long sample = 0; sample < batch; sample++)
        for (long m = from; m < least(from + rows, n); m++)
          *to++ = x[sample * width + (a1 + m / n2) * f.a2 + a2 + m % n2];
  }
}
// g[sample, b1, b2] as vectors over b2: [b1][vector][sample][lane], zeros behind the last entry.
static void pack_gradient(const entry* g, entry* packed, long batch, const Factors& f) {
  const long vectors = divided(f.b2, W);
#pragma omp for schedule(static)
  for (long q = 0; q < f.b1 * vectors; q++) {
    const long v = q % vectors, valid = f.b2 - v * W;
    for (long sample = 0; sample < batch; sample++)
      store(packed + (q * batch + sample) * W,
            load_some(g + (sample * f.b1 + q / vectors) * f.b2 + v * W, valid));
  }
}
// right[s, a2, b2] as [a2][b2 filled up][s filled up], with zeros.
static void pack_turned(const Factors& f, entry* packed) {
  const long wide = filled(f.b2), deep = filled(f.s);
#pragma omp for schedule(static)
  for (long j = 0; j < f.a2; j++)
    for (long b = 0; b < wide; b++)
      for (long s = 0; s < deep; s++)
        packed[(j * wide + b) * deep + s] =
            b < f.b2 && s < f.s ? f.right[s * f.right_s + j * f.right_a + b * f.right_b] : entry{};
}

// d[(a1 b1)][a2, vector, lane] = sum over samples of x g.
STEP make_gradient_tile(const Factors& f, const Block& k, const entry* x, const entry* g,
                               entry* d, long batch) {
  const long vectors = divided(f.b2, W), n = k.n1 * k.n2, rows = panel_rows(n);
  const long columns = k.m1 * k.nv;
  // So many samples at once stay in a cache; of no samples the sum is zero.
  for (long from = 0; from == 0 || from < batch; from += SAMPLES) {
    const long samples = least(SAMPLES, batch - from);
    for (long first = 0; first < n; first += rows) {
      const long count = least(rows, n - first);
      long places[MOST_ROWS];
      for (long m = 0; m < count; m++)
        places[m] = (first + m) / k.n2 * k.m1 * k.row() + (first + m) % k.n2 * k.nv * W;
      const entry* own = x + batch * first + from * count;
      for (long q = 0; q < columns; q += 2) {
        const entry* sources[2];
        long at[2];
        for (long e = 0; e < 2; e++) {
          const long j = least(q + e, columns - 1) / k.nv, v = least(q + e, columns - 1) % k.nv;
          at[e] = j * k.row() + v * W;
          sources[e] = g + (((k.b1 + j) * vectors + k.v + v) * batch + from) * W;
        }
        if (q + 1 < columns)
          ByRows<2>::into_tile(count, own, sources, samples, d, places, at, from == 0);
        else
          ByRows<1>::into_tile(count, own, sources, samples, d, places, at, from == 0);
      }
    }
  }
}

// to[a1, b1, s] (+)= sum over a2, b2 of d right, so many vectors of s at once; to is stored as left.
template <int N>
STEP into_left(const Factors& f, const Block& k, const entry* d, const entry* turned,
                      entry* to, long s, bool is_first) {
  const long wide = filled(f.b2), deep = filled(f.s), pairs = k.n1 * k.m1;
  // Where the tile has all of b2, the rows of a2 follow each other on both sides.
  const long runs = k.nv * W == wide ? 1 : k.n2, length = k.row() / runs;
  for (long from = 0; from < pairs; from += FEW_ROWS) {
    vec sums[FEW_ROWS][N] = {};
    for (long j = 0; j < runs; j++) {
      const entry* rows[FEW_ROWS];
      for (long m = 0; m < FEW_ROWS; m++)
        rows[m] = d + least(from + m, pairs - 1) * k.row() + j * length;
      const entry* right = turned + ((k.a2 + j) * wide + k.v * W) * deep + s;
      multiply_rows<FEW_ROWS, N>(sums, rows, right, deep, length);
    }
    for (int m = 0; m < FEW_ROWS && from + m < pairs; m++) {
      const long pair = from + m;
      entry* own = to + f.left_at(k.a1 + pair / k.m1, k.b1 + pair % k.m1) + s;
      for (int v = 0; v < N; v++) {
        const long valid = f.s - s - v * W;
        vec sum = sums[m][v];
        if (!is_first) sum += load_some(own + v * W, valid);
        store_some(own + v * W, sum, valid);
      }
    }
  }
}

// to[s][a2][b2 filled up] += sum over a1, b1 of left d, for so many indices of s at once.
template <int ROWS>
STEP into_right(const Factors& f, const Block& k, const entry* d, entry* to, long s) {
  const long wide = filled(f.b2), vectors = k.n2 * k.nv;
  for (long q = 0; q < vectors; q += 2) {
    const long second = q + 1 < vectors ? W : 0;
    vec sums[ROWS][2] = {};
    for (long i = 0; i < k.n1; i++) {
      const entry* row = f.left + f.at_a[k.a1 + i] + s;
      const entry* own = d + i * k.m1 * k.row() + q * W;
      for (long j = 0; j < k.m1; j++, own += k.row()) {
        const entry* left = row + f.at_b[k.b1 + j];
        const vec right[2] = {load(own), load(own + second)};
#pragma GCC unroll 16
        for (int m = 0; m < ROWS; m++) {
          const vec one = splat(left + m);
          for (int v = 0; v < 2; v++) sums[m][v] += one * right[v];
        }
      }
    }
    for (long e = 0; e < (second ? 2 : 1); e++)
      for (int m = 0; m < ROWS; m++) {
        entry* own = to + ((s + m) * f.a2 + k.a2 + (q + e) / k.nv) * wide +
                     (k.v + (q + e) % k.nv) * W;
        store(own, load(own) + sums[m][e]);
      }
  }
}

// All of a tile into both; where one is not wanted it is null.
static void use_tile(const Factors& f, const Block& k, const entry* d, const entry* turned,
                     entry* to_left, entry* to_right, bool is_first) {
  const long deep = filled(f.s);
  if (to_left)
    for (long s = 0; s < deep; s += 2 * W) {
      if (s + W < deep)
        into_left<2>(f, k, d, turned, to_left, s, is_first);
      else
        into_left<1>(f, k, d, turned, to_left, s, is_first);
    }
  if (to_right) {
    long s = 0;
    for (; s + FEW_ROWS <= f.s; s += FEW_ROWS) into_right<FEW_ROWS>(f, k, d, to_right, s);
    for (; s < f.s; s++) into_right<1>(f, k, d, to_right, s);
  }
}

static int gradients(const Factors& f, const entry* x, const entry* g, entry* to_left,
                     entry* to_right, long batch, int threads) {
  const Tiles t = gradient_tiles(f);
  const long wide = filled(f.b2), size_x = batch * f.a1 * f.a2, size_g = batch * f.b1 * wide;
  const long size_right = to_right ? f.s * f.a2 * wide : 0;
  const long size_tile = t.a1 * t.b1 * t.a2 * filled(t.b2);
  const size_t shared = size_x + size_g + f.a2 * wide * filled(f.s);
  Room* room = room_for(threads, shared, size_tile + size_right);
  if (!room) return 1;
  entry *columns = room->call.get(0), *rows = columns + size_x, *turned = rows + size_g;
  int team = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const int me = omp_get_thread_num();
    if (me == 0) team = omp_get_num_threads();
    entry *d = room->own[me].get(0), *sums = to_right ? d + size_tile : nullptr;
    if (sums) memset((void*)sums, 0, size_right * sizeof(entry));
    pack_columns(x, columns, batch, f, t);
    pack_gradient(g, rows, batch, f);
    pack_turned(f, turned);
    const long across = divided(f.b1, t.b1), blocks = divided(f.a1, t.a1) * across;
#pragma omp for schedule(static)
    for (long block = 0; block < blocks; block++) {
      Block k;
      k.a1 = block / across * t.a1, k.b1 = block % across * t.b1;
      k.n1 = least(t.a1, f.a1 - k.a1), k.m1 = least(t.b1, f.b1 - k.b1);
      for (k.a2 = 0; k.a2 < f.a2; k.a2 += t.a2)
        for (long b2 = 0; b2 < f.b2; b2 += t.b2) {
          k.n2 = least(t.a2, f.a2 - k.a2);
          k.v = b2 / W, k.nv = divided(least(t.b2, f.b2 - b2), W);
          const entry* own = columns + batch * (k.a1 * f.a2 + k.n1 * k.a2);
          make_gradient_tile(f, k, own, rows, d, batch);
          use_tile(f, k, d, turned, to_left, sums, k.a2 == 0 && b2 == 0);
        }
    }
    if (to_right) {
#pragma omp for schedule(static)
      for (long row = 0; row < f.s * f.a2; row++)
        for (long b = 0; b < f.b2; b++) {
          entry sum = 0;
          for (int who = 0; who < team; who++)
            sum += room->own[who].get(0)[size_tile + row * wide + b];
          to_right[row * f.b2 + b] = sum;
        }
    }
  }
  leave_room(room);
  return 0;
}
