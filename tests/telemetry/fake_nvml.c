/* libnvidia-ml.so.1 for measuring: as many GPUs as FAKE_GPU_COUNT says, whose calls cost what a
 * C function costs. Layouts as in nvml.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } rates_t;
typedef struct { unsigned long long reference, violation; } violation_t;
typedef struct {
  unsigned field, scope; long long stamp, latency; int type, result;
  union { double d; unsigned u; unsigned long long ull; } value;
} field_t;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int count(void) {
  const char *text = getenv("FAKE_GPU_COUNT");
  return text ? atoi(text) : 1;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = count(); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(size_t)(i + 1); return 0; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "595.12", n); return 0; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { (void)h; strncpy(s, "Made-up", n); return 0; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) {
  (void)n; strcpy(s, "GPU-0000"); s[7] = '0' + (int)((size_t)h - 1); return 0;
}
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) {
  (void)h; m->total = 85899345920ull; m->used = 20123456789ull; m->free = m->total - m->used; return 0;
}
int nvmlDeviceGetUtilizationRates(void *h, rates_t *r) { (void)h; r->gpu = 97; r->memory = 41; return 0; }
int nvmlDeviceGetTemperature(void *h, int kind, unsigned *c) { (void)h; (void)kind; *c = 65; return 0; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *mw) {
  (void)h; *mw = 600000 + (unsigned)(now() * 1000) % 50000; return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *mj) {
  (void)h; *mj = (unsigned long long)(now() * 612345.0); return 0;
}
int nvmlDeviceGetClockInfo(void *h, int kind, unsigned *mhz) { (void)h; *mhz = 1980 + kind; return 0; }
int nvmlDeviceGetCurrentClocksEventReasons(void *h, unsigned long long *r) { (void)h; *r = 4; return 0; }
int nvmlDeviceGetViolationStatus(void *h, int policy, violation_t *v) {
  (void)h; v->reference = 0; v->violation = 1000ull * policy; return 0;
}
int nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending) {
  (void)h; *current = *pending = 0; return 0;
}
int nvmlDeviceGetFieldValues(void *h, int n, field_t *values) {
  (void)h;
  for (int i = 0; i < n; i++) { values[i].result = 0; values[i].value.u = 612345; }
  return 0;
}
