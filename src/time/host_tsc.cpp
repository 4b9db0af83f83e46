#include "time/host_tsc.h"

#include <fcntl.h>
#include <unistd.h>
#include <x86intrin.h>

#include <array>
#include <string_view>

#include "base/fd.h"

namespace doppel::time {

std::uint64_t host_tsc() {
  _mm_lfence();
  return __rdtsc();
}

bool host_tsc_is_clock() {
  const UniqueFd file(open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return false;
  std::array<char, 16> name{};
  const ssize_t length = read(file.get(), name.data(), name.size());
  return length > 0 && std::string_view(name.data(), static_cast<std::size_t>(length)) == "tsc\n";
}

}  // namespace doppel::time
