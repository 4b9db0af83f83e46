#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "fuzz_isa/case.h"

namespace doppel::fuzz_isa {

/// Which mnemonics met which forms of operands in which modes, how often, and how the cases ended.
class Coverage {
 public:
  void count(const Case& made, const Outcome& outcome);
  /// A line per mnemonic, a column per form and mode; and the totals.
  std::string table() const;
  std::string summary() const;

 private:
  std::map<std::string, std::map<std::string, std::uint64_t>> reached_;
  std::map<unsigned, std::uint64_t> vectors_;
  std::uint64_t cases_ = 0, instructions_ = 0;
};

}  // namespace doppel::fuzz_isa
