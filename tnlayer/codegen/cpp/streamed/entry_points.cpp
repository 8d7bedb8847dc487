
// -- what is called from outside ------------------------------------------------------------------

// z: a1, a2, b1, b2, s of left and of right[s, a2, b2]; then the places in left of each index of a1,
// and of each of b1.
static Factors factors_of(const long* z, void* left, void* right) {
  const long *at_a = z + 5, *at_b = at_a + z[0];
  return {z[0], z[1], z[2],        z[3], z[4], (const entry*)left, (const entry*)right,
          at_a, at_b, z[1] * z[3], z[3], 1};
}
static bool is_missing(void** arguments, int from, int to) {
  for (int k = from; k < to; k++)
    if (!arguments[k]) return true;
  return false;
}

// z, x, left, right; y.
extern "C" int forward(void** arguments, long batch, int threads) {
  if (is_missing(arguments, 2, 4) || (batch && is_missing(arguments, 1, 5))) return NO_ADDRESS;
  if (omp_in_parallel()) threads = 1;
  const Factors f = factors_of((const long*)arguments[0], arguments[2], arguments[3]);
  return apply(f, (const entry*)arguments[1], (entry*)arguments[4], batch, threads);
}

// z, g, x, left, right; the gradients of x, left and right, null where one is not wanted.
extern "C" int backward(void** arguments, long batch, int threads) {
  if (is_missing(arguments, 3, 5) || (batch && is_missing(arguments, 1, 2))) return NO_ADDRESS;
  if (omp_in_parallel()) threads = 1;
  const Factors f = factors_of((const long*)arguments[0], arguments[3], arguments[4]);
  const entry *g = (const entry*)arguments[1], *x = (const entry*)arguments[2];
  entry *to_x = (entry*)arguments[5], *to_left = (entry*)arguments[6];
  entry* to_right = (entry*)arguments[7];
  if (to_x && apply(turned(f), g, to_x, batch, threads)) return 1;
  if (!to_left && !to_right) return 0;
  return gradients(f, x, g, to_left, to_right, batch, threads);
}

// Gives back what calls keep; the next call takes memory anew.
extern "C" void forward_release() { drop_rooms(); }
extern "C" void backward_release() { drop_rooms(); }
