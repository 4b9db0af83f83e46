#include "boot/options.h"

#include <sys/random.h>

namespace doppel::boot {

std::vector<std::byte> fresh_random_seed() {
  std::vector<std::byte> seed(32);
  const ssize_t got = getrandom(seed.data(), seed.size(), 0);
  seed.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return seed;
}

}  // namespace doppel::boot
