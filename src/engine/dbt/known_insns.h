#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/dbt/reencoder.h"
#include "isa/decoder.h"

namespace doppel::engine::dbt {

/// A decoder that remembers: most instructions of a program have been seen before, to the byte. Of one thread.
class KnownInsns {
 public:
  explicit KnownInsns(const isa::Decoder& decoder) : decoder_(decoder), places_(kPlaces) {}

  /// The instruction that the bytes begin with, all but SourceInsn::offset; false where there is none.
  bool decode(std::span<const std::byte> bytes, isa::CodeSize size, SourceInsn& out);

 private:
  static constexpr std::size_t kPlaces = 2048;
  SourceInsn& place_of(std::span<const std::byte> bytes, isa::CodeSize size);

  const isa::Decoder& decoder_;
  std::vector<SourceInsn> places_;  ///< those without a length are free
};

}  // namespace doppel::engine::dbt
