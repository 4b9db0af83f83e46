#include "fuzz_isa/coverage.h"

#include <fmt/format.h>

namespace doppel::fuzz_isa {

namespace {

constexpr std::array kColumns{"64-bit, register", "64-bit, memory", "64-bit, memory, two pages",
                              "32-bit, register", "32-bit, memory", "32-bit, memory, two pages"};

}  // namespace

void Coverage::count(const Case& made, const Outcome& outcome) {
  ++cases_;
  ++vectors_[outcome.vector];
  for (const Instruction& instruction : made.instructions) {
    ++instructions_;
    ++reached_[instruction.mnemonic][(made.start.bits64() ? "64-bit, " : "32-bit, ") + instruction.form];
  }
}

std::string Coverage::table() const {
  std::string text = fmt::format("{:<20}", "");
  for (const char* column : kColumns) text += fmt::format(" | {}", column);
  text += "\n";
  for (const auto& [mnemonic, forms] : reached_) {
    text += fmt::format("{:<20}", mnemonic);
    for (const char* column : kColumns) {
      const auto found = forms.find(column);
      text += fmt::format(" | {:>{}}", found == forms.end() ? 0 : found->second, std::string_view(column).size());
    }
    text += "\n";
  }
  return text;
}

std::string Coverage::summary() const {
  std::size_t forms = 0;
  for (const auto& [mnemonic, columns] : reached_) forms += columns.size();
  std::string text =
      fmt::format("{} cases of {} instructions: {} mnemonics in {} combinations of form and mode; ended by", cases_,
                  instructions_, reached_.size(), forms);
  for (const auto& [vector, count] : vectors_) text += fmt::format(" {}:{}", vector, count);
  return text + "\n";
}

}  // namespace doppel::fuzz_isa
