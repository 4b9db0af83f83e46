#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

#include "fuzz_isa/case.h"
#include "fuzz_isa/claims.h"

namespace doppel::fuzz_isa {

/// Which forms of instructions were executed, how often, in which ways, and how the cases ended. An instruction counts
/// when it was certainly executed, or has faulted: not those that a branch may have skipped, nor those behind a fault.
class Coverage {
 public:
  /// How often, in one form.
  struct Count {
    std::uint64_t completed = 0, faulted = 0;
    std::uint64_t memory = 0, misaligned = 0, two_pages = 0;
    std::uint64_t segment = 0, address_size = 0, redundant_prefixes = 0;
    void add(const Count& other);
  };

  /// A case, and by how many engines it was executed.
  void count(const Case& made, const Outcome& outcome, unsigned engines);

  /// Adds what a file of save() holds; false if there is none.
  bool load(const std::string& path);
  void save(const std::string& path) const;

  /// A line per mnemonic: by mode how many of the claimed forms were reached and how often; the totals; and what was
  /// not reached.
  std::string table(const Claims& claims) const;
  std::string summary() const;

 private:
  Count& of(Form form) { return reached_[form.key]; }

  std::unordered_map<std::uint64_t, Count> reached_;  ///< by Form
  std::array<std::uint64_t, 33> ends_{};              ///< by vector; the last one: ran through
  std::uint64_t cases_ = 0, instructions_ = 0, engine_cases_ = 0, engine_instructions_ = 0;
};

}  // namespace doppel::fuzz_isa
