#include "suites.h"

#include "report.h"

static const char* find(const char* text, const char* word) {
  for (; *text; ++text) {
    unsigned i = 0;
    while (word[i] && text[i] == word[i]) ++i;
    if (word[i] == 0) return text + i;
  }
  return 0;
}

static bool asked_for(const struct Suite* suite) {
  extern uint32_t start_info;
  enum { kCommandLine = 24 };
  const char* const line = (const char*)(uintptr_t) * (uint64_t*)(uintptr_t)(start_info + kCommandLine);
  const char* const names = line ? find(line, "only=") : 0;
  return names == 0 ? suite->cpus != 0 : find(names, suite->name) != 0;
}

void run_suites(const struct Suite* suites, unsigned count, void (*restore)(void)) {
  for (const struct Suite* suite = suites; suite != suites + count; ++suite) {
    if (!asked_for(suite) || cpu_count() < suite->cpus) continue;
    print(suite->name);
    print("\n");
    suite->run();
    restore();
  }
  finish();
}
