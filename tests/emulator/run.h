// Behind the kernels: what the driver of the emulator calls.
static const size_t MOST_SHARED = 256 * 1024;

extern "C" int emulator_descending = 0;

extern "C" int run_kernel(void (*kernel)(void**), unsigned grid, unsigned threads, unsigned shared,
                          void** parameters) {
  using namespace emulator;
  emulator::kernel = kernel;
  emulator::parameters = parameters;
  fibers.resize(threads);
  stacks.resize((size_t)threads * STACK);
  gridDim = {grid, 1, 1};
  blockDim = {threads, 1, 1};
  for (unsigned turn = 0; turn < grid; ++turn) {
    blockIdx = {emulator_descending ? grid - 1 - turn : turn, 0, 0};
    memset(EMULATED_SHARED, 0xff, MOST_SHARED);
    if (run_block(threads, emulator_descending)) return 1;
    for (size_t k = shared; k < MOST_SHARED; ++k)
      if (((unsigned char*)EMULATED_SHARED)[k] != 0xff) {
        fprintf(stderr, "emulator: writes byte %zu of %u of shared memory\n", k, shared);
        return 1;
      }
  }
  return 0;
}
