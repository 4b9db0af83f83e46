#include "snapshot/random_id.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <cstdint>

namespace doppel::snapshot {

std::string random_id() {
  std::uint64_t bits = 0;
  [[maybe_unused]] const ssize_t got = ::getrandom(&bits, sizeof bits, 0);
  return fmt::format("{:016x}", bits);
}

}  // namespace doppel::snapshot
