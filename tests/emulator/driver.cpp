// A CUDA driver without a device: the calls of tnlayer/backends/toolchains/cuda_driver.py, for cuda.bindings to find.
//
// A module's "binary" is the path of a shared library that was compiled from CUDA C++ behind
// device.h. Each launch is checked, recorded, and run to its end before the call returns.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {
enum Status { SUCCESS = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, NOT_FOUND = 500, FAILED = 719, NOT_SUPPORTED = 801 };
typedef void (*Kernel)(void** parameters);
typedef int (*Run)(Kernel, unsigned grid, unsigned threads, unsigned shared, void** parameters);

struct Function {
  std::string name;
  Kernel kernel;
  Run run;
  int most_shared, carveout;
  bool loaded;
};
struct Launch {
  char name[64];
  unsigned grid, threads, shared;
  int carveout;
  void* stream;
};

const unsigned GIVEN_SHARED = 48 * 1024;
char primary[8], other[8];
thread_local void* current = nullptr;
std::recursive_mutex lock;
std::vector<Launch> launches;
int modules = 0, calls = 0;
bool runs = true;
}  // namespace

extern "C" {
// What tests ask.
int emulator_launches() { return (int)launches.size(); }
const Launch* emulator_launch(int number) { return &launches[number]; }
int emulator_modules() { return modules; }
int emulator_calls() { return calls; }  // of those that a launch may take
void emulator_forget() { launches.clear(); modules = calls = 0; }
void emulator_runs(int value) { runs = value; }  // whether a launch does anything
void emulator_leave_context() { current = nullptr; }
void emulator_enter_context() { current = other; }  // that of another device

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) { *version = 13000; return SUCCESS; }
int cuGetErrorName(int, const char** text) { *text = "CUDA_ERROR"; return SUCCESS; }
int cuGetErrorString(int, const char** text) { *text = "words of the emulator"; return SUCCESS; }
int cuDeviceGet(int* device, int number) { *device = number; return number ? INVALID_VALUE : SUCCESS; }
int cuDevicePrimaryCtxRetain(void** context, int) { *context = primary; return SUCCESS; }
int cuCtxGetCurrent(void** context) { ++calls; *context = current; return SUCCESS; }
int cuCtxSetCurrent(void* context) { current = context; return SUCCESS; }

int cuModuleLoadData(void** module, const void* path) {
  if (!current) return INVALID_CONTEXT;
  *module = dlopen((const char*)path, RTLD_NOW | RTLD_LOCAL);
  if (!*module) { fprintf(stderr, "emulator: %s\n", dlerror()); return INVALID_VALUE; }
  ++modules;
  return SUCCESS;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  std::string symbol = std::string("emulated_") + name;
  Kernel kernel = (Kernel)dlsym(module, symbol.c_str());
  if (!kernel) return NOT_FOUND;
  *function = new Function{name, kernel, (Run)dlsym(module, "run_kernel"), (int)GIVEN_SHARED, -1, false};
  return SUCCESS;
}

int cuFuncSetAttribute(void* function, int attribute, int value) {
  Function& f = *(Function*)function;
  if (attribute == 9 && value >= -1 && value <= 100) {  // percent of memory that is shared memory
    f.carveout = value;
    return SUCCESS;
  }
  if (attribute != 8 || value > 227 * 1024) return INVALID_VALUE;  // dynamic shared memory
  f.most_shared = value > (int)GIVEN_SHARED ? value : GIVEN_SHARED;
  return SUCCESS;
}

int cuFuncLoad(void* function) { ((Function*)function)->loaded = true; return SUCCESS; }

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int threads, size_t shared) {
  int by_threads = 2048 / threads, by_shared = 228 * 1024 / (int)(shared + 1024);
  *blocks = by_threads < by_shared ? by_threads : by_shared;
  return SUCCESS;
}

int cuLaunchKernel(void* function, unsigned grid, unsigned grid_y, unsigned grid_z, unsigned threads,
                   unsigned threads_y, unsigned threads_z, unsigned shared, void* stream,
                   void** parameters, void** extra) {
  Function& f = *(Function*)function;
  if (current != primary) return INVALID_CONTEXT;
  // A driver that loads a function as late as this fails where a graph is captured.
  if (!f.loaded) return NOT_FOUND;
  ++calls;
  if (grid_y != 1 || grid_z != 1 || threads_y != 1 || threads_z != 1 || extra) return INVALID_VALUE;
  if (!grid || !threads || threads > 1024 || (int)shared > f.most_shared) return INVALID_VALUE;
  std::lock_guard<std::recursive_mutex> hold(lock);
  if (!runs) return SUCCESS;
  Launch launch{"", grid, threads, shared, f.carveout, stream};
  strncpy(launch.name, f.name.c_str(), sizeof launch.name - 1);
  launches.push_back(launch);
  return f.run(f.kernel, grid, threads, shared, parameters) ? FAILED : SUCCESS;
}

// NVRTC asks for it where a driver is loaded.
int cuGetExportTable(const void** table, const void*) { *table = nullptr; return NOT_FOUND; }

// Whatever else the bindings know of the driver.
static int unsupported() { return NOT_SUPPORTED; }

int cuGetProcAddress_v2(const char* name, void** address, int, uint64_t, int* status) {
  static void* own = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  *address = dlsym(own, name);
  if (!*address) *address = (void*)unsupported;
  if (status) *status = 0;
  return SUCCESS;
}
}
