#pragma once

#include <cstdint>
#include <string>

#include "fuzz_isa/segments.h"
#include "isa/decoder.h"

namespace doppel::fuzz_isa {

/// What the table of coverage tells apart: a mnemonic with kinds and sizes of operands, in a mode and an encoding.
/// Packed into one number.
struct Form {
  std::uint64_t key = 0;
  bool operator<(const Form& other) const { return key < other.key; }

  unsigned mnemonic() const { return static_cast<unsigned>(key & 0x7FF); }
  Mode mode() const { return static_cast<Mode>(key >> 11 & 3); }
};

Form form_of(const isa::Insn& insn, const isa::Encoding& encoding, Mode mode);
/// "add|64-bit|legacy|lock|m32, r32".
std::string to_string(Form form);

/// How an instruction met a form.
struct Reached {
  Form form;
  bool memory = false, two_pages = false, misaligned = false;
  bool segment = false;             ///< a segment override
  bool address_size = false;        ///< 67H
  bool redundant_prefixes = false;  ///< prefixes that change nothing
};

}  // namespace doppel::fuzz_isa
