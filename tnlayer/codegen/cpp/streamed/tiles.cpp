
// -- how the matrix is divided --------------------------------------------------------------------

static long least(long a, long b) { return a < b ? a : b; }
static long most(long a, long b) { return a < b ? b : a; }
static long divided(long a, long b) { return (a + b - 1) / b; }
static long filled(long a) { return divided(a, W) * W; }

// W[(a1 a2), (b1 b2)] = sum over s of left[a1, b1, s] right[s, a2, b2]. Places and strides are in
// entries; the s entries of left for one a1 and b1 follow each other.
struct Factors {
  long a1, a2, b1, b2, s;
  const entry *left, *right;
  const long *at_a, *at_b;  // places in left of each index of a1, and of b1: they add up
  long right_s, right_a, right_b;
  long left_at(long a, long b) const { return at_a[a] + at_b[b]; }
};
// The transposed matrix.
static Factors turned(const Factors& f) {
  return {f.b1,   f.b2,   f.a1,      f.a2,      f.s,      f.left, f.right,
          f.at_b, f.at_a, f.right_s, f.right_b, f.right_a};
}

// How much of each leg a tile holds.
struct Tiles {
  long a1, a2, b1, b2;
};
// For a product: DEPTH rows by COLUMNS vectors, in whole vectors where there are enough columns.
static Tiles product_tiles(const Factors& f) {
  Tiles t;
  t.b2 = least(f.b2, 2 * W);
  t.b1 = most(COLUMNS * W / t.b2, 1);
  if (t.b2 == f.b2)
    while (t.b1 * t.b2 % W) t.b1++;
  t.b1 = least(t.b1, f.b1);
  t.a2 = least(f.a2, 2 * W);
  t.a1 = least(most(DEPTH / t.a2, 1), f.a1);
  return t;
}
// For gradients: about as many indices of a1 as of b1, and many of both for each of a2 and b2, over
// which what goes into right is summed in registers.
static Tiles gradient_tiles(const Factors& f) {
  Tiles t;
  t.a2 = least(f.a2, most(W / 2, 1));
  t.b2 = least(f.b2, 2 * W);
  const long rows = TILE_ENTRIES / (t.a2 * filled(t.b2));
  t.b1 = 1;
  while (t.b1 * t.b1 < rows) t.b1 *= 2;
  t.b1 = least(t.b1, f.b1);
  t.a1 = least(most(rows / t.b1, 1), f.a1);
  return t;
}
// Rows of a panel: all panels have about as many.
static long panel_rows(long rows) {
  return most(divided(rows, most(divided(rows, MOST_ROWS), 1)), 1);
}

// Memory of a call and of each of its threads; null where none is left. It is taken before threads
// start, so that all of them go the same way.
static Room* room_for(int threads, size_t shared, size_t own) {
  Room* room = take_room(threads);
  if (!room) return nullptr;
  bool is_there = room->call.get(shared) != nullptr;
  for (int t = 0; t < threads; t++) is_there = room->own[t].get(own) != nullptr && is_there;
  if (is_there) return room;
  leave_room(room);
  return nullptr;
}
