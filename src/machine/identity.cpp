#include "machine/identity.h"

#include <sys/random.h>

namespace doppel::machine {
namespace {

/// A random UUID (RFC 4122, version 4).
std::array<std::uint8_t, 16> random_uuid() {
  std::array<std::uint8_t, 16> uuid{};
  const ssize_t got = getrandom(uuid.data(), uuid.size(), 0);
  static_cast<void>(got);  // 16 bytes are never cut short once the pool is initialized
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0F) | 0x40);
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3F) | 0x80);
  return uuid;
}

}  // namespace

Identity Identity::random() {
  return {random_uuid(), random_uuid()};
}

}  // namespace doppel::machine
