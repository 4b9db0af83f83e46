#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "boot/payload.h"

/// Any bytes unpack to at most the limit, or are an error with a message.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kLimit = std::size_t{1} << 20;
  const auto unpacked = doppel::boot::unpack_payload(std::as_bytes(std::span{data, size}), kLimit);
  if (unpacked ? unpacked->size() > kLimit : unpacked.error().message.empty()) std::abort();
  return 0;
}
