// -- small products, in registers -----------------------------------------------------------------
// What calls these is marked STEP: in a function of its own all addresses stay in registers.

// A vector of which only some entries are in memory.
INLINE void store_some(entry* p, vec v, long count) {
  if (count >= W) return store(p, v);
  entry all[W];
  store(all, v);
  for (long j = 0; j < count; j++) p[j] = all[j];
}
INLINE vec load_some(const entry* p, long count) {
  if (count >= W) return load(p);
  entry all[W] = {};
  for (long j = 0; j < count; j++) all[j] = p[j];
  return load(all);
}

// sums[m] += sum over k of a[m][k] b[k]: each row of a lies by itself, N vectors of b behind each other.
template <int ROWS, int N>
INLINE void multiply_rows(vec (&sums)[ROWS][N], const entry* const* a, const entry* b, long step,
                          long count) {
  const entry* rows[ROWS];
  for (int m = 0; m < ROWS; m++) rows[m] = a[m];
  for (long k = 0; k < count; k++) {
    vec right[N];
#pragma GCC unroll 2
    for (int v = 0; v < N; v++) right[v] = load(b + k * step + v * W);
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++) {
      const vec left = splat(rows[m] + k);
#pragma GCC unroll 2
      for (int v = 0; v < N; v++) sums[m][v] += left * right[v];
    }
  }
}

// The same for two vectors of b that lie apart.
template <int ROWS>
INLINE void multiply_two(vec (&sums)[ROWS][2], const entry* const* a, const entry* b0,
                         const entry* b1, long count) {
  const entry* rows[ROWS];
  for (int m = 0; m < ROWS; m++) rows[m] = a[m];
  for (long k = 0; k < count; k++) {
    const vec first = load(b0 + k * W), second = load(b1 + k * W);
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++) {
      const vec left = splat(rows[m] + k);
      sums[m][0] += left * first;
      sums[m][1] += left * second;
    }
  }
}

// Rows of samples times a tile of W: y[m * pitch] (+)= sum over k of x[k][m] tile[k]. Each tile's sum
// begins with zero: sums of sums round less than one long sum.
template <int ROWS, int N>
static void samples_times_tile(const entry* x, const entry* tile, long step, long count, entry* y,
                               long pitch, long valid, bool is_first) {
  enum { LAST = N - 1 };
  vec sums[ROWS][N] = {};
  for (long k = 0; k < count; k++) {
    vec right[N];
    for (int v = 0; v < N; v++) right[v] = load(tile + k * step + v * W);
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++) {
      const vec left = splat(x + k * ROWS + m);
      for (int v = 0; v < N; v++) sums[m][v] += left * right[v];
    }
  }
  for (int m = 0; m < ROWS; m++) {
    entry* own = y + m * pitch;
    if (!is_first) {
      for (int v = 0; v < LAST; v++) sums[m][v] += load(own + v * W);
      sums[m][LAST] += load_some(own + LAST * W, valid);
    }
    for (int v = 0; v < LAST; v++) store(own + v * W, sums[m][v]);
    store_some(own + LAST * W, sums[m][LAST], valid);
  }
}

// A tile of the gradient of W: d[places[m] + at[v]] (+)= sum over samples of x[sample][m] g[v][sample].
template <int ROWS, int N>
static void samples_into_tile(const entry* x, const entry* const* g, long count, entry* d,
                              const long* places, const long* at, bool is_first) {
  vec sums[ROWS][N] = {};
  const entry *first = g[0], *last = g[N - 1];
  for (long k = 0; k < count; k++) {
    vec right[N];
    right[0] = load(first + k * W);
    right[N - 1] = load(last + k * W);
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++) {
      const vec left = splat(x + k * ROWS + m);
      for (int v = 0; v < N; v++) sums[m][v] += left * right[v];
    }
  }
  for (int m = 0; m < ROWS; m++)
    for (int v = 0; v < N; v++) {
      entry* own = d + places[m] + at[v];
      store(own, is_first ? sums[m][v] : sums[m][v] + load(own));
    }
}

// The function of so many rows, which are known when it runs.
template <int N, int ROWS = MOST_ROWS> struct ByRows {
  template <typename... A> static void times_tile(long rows, A... a) {
    if (rows == ROWS) return samples_times_tile<ROWS, N>(a...);
    ByRows<N, ROWS - 1>::times_tile(rows, a...);
  }
  template <typename... A> static void into_tile(long rows, A... a) {
    if (rows == ROWS) return samples_into_tile<ROWS, N>(a...);
    ByRows<N, ROWS - 1>::into_tile(rows, a...);
  }
};
template <int N> struct ByRows<N, 0> {
  template <typename... A> static void times_tile(long, A...) {}
  template <typename... A> static void into_tile(long, A...) {}
};
