#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// Machine code for people to read.
namespace doppel::isa {

struct DisassembledInsn {
  std::size_t length = 1;
  std::string text = "(bad)";
};
/// The instruction that the bytes, of which there is one at least, begin with.
DisassembledInsn disassemble_one(std::span<const std::byte> bytes, std::uint64_t address, bool code_64);

/// "ADDRESS  INSTRUCTION" lines.
std::vector<std::string> disassemble(std::span<const std::byte> bytes, std::uint64_t address, bool code_64);

}  // namespace doppel::isa
