#include "engine/dbt/block_listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/interp/mode.h"
#include "isa/disassembly.h"

namespace doppel::engine::dbt {

namespace {

constexpr std::size_t kCallBytes = 5;
constexpr std::byte kCall{0xE8};

/// The host's code of one block, from its beginning to its end. Not all of it is instructions: the number of a site
/// follows the call that leaves there, and a block of two pages holds a count.
class HostCode {
 public:
  HostCode(const Block& block, std::span<const Site> sites, const Trampolines& trampolines)
      : block_(block), sites_(sites), trampolines_(trampolines) {}

  void list_to(std::size_t end, std::vector<std::string>& lines) {
    while (at_ < end) lines.push_back(next());
  }

 private:
  std::string next() {
    if (block_.verified != 0 && at_ == block_.verified) return data(sizeof(std::uint64_t), "the flushes counted");
    if (std::exchange(number_follows_, false)) return data(sizeof(std::uint32_t), "its site");
    const std::span<const std::byte> rest(block_.code + at_, block_.code_size - at_);
    const auto address = reinterpret_cast<std::uint64_t>(rest.data());
    const isa::DisassembledInsn insn = isa::disassemble_one(rest, address, true);
    at_ += insn.length;
    std::string line = fmt::format("        {:x}  {}", address, insn.text);
    if (insn.length == kCallBytes && rest.front() == kCall) line += called(rest);
    return line;
  }

  std::string called(std::span<const std::byte> call) {
    std::int32_t distance = 0;
    std::memcpy(&distance, &call[1], sizeof distance);
    const std::string name = trampoline_name(trampolines_, call.data() + kCallBytes + distance);
    if (name.empty()) return {};
    number_follows_ = std::ranges::find(sites_, at_, &Site::called_from) == sites_.end();
    return "  ; " + name;
  }

  std::string data(std::size_t size, const char* what) {
    std::uint64_t value = 0;
    std::memcpy(&value, block_.code + at_, size);
    const auto address = reinterpret_cast<std::uint64_t>(block_.code + at_);
    at_ += size;
    return fmt::format("        {:x}  {:#x}  ; {}", address, value, what);
  }

  const Block& block_;
  const std::span<const Site> sites_;
  const Trampolines& trampolines_;
  std::size_t at_ = 0;
  bool number_follows_ = false;
};

}  // namespace

std::string trampoline_name(const Trampolines& trampolines, const std::byte* address) {
  const auto among = [address](const auto& list) { return std::ranges::find(list, address) != list.end(); };
  if (address == nullptr) return {};
  for (std::size_t i = 0; i < trampolines.exit.size(); ++i) {
    if (address == trampolines.exit[i]) return kExitReasonNames[i];
  }
  if (among(trampolines.miss[0])) return "read_miss";
  if (among(trampolines.miss[1])) return "write_miss";
  if (std::ranges::any_of(trampolines.check_crossing, among)) return "check_crossing";
  if (among(trampolines.not_found)) return "lookup";
  if (among(trampolines.move_string)) return "move_string";
  if (among(trampolines.store_string)) return "store_string";
  if (address == trampolines.system_call) return "system_call";
  return address == trampolines.system_return ? "system_return" : "";
}

std::string mode_name(std::uint32_t mode) {
  const interp::Mode bits{mode};
  return fmt::format("{} {}-bit", bits.has(interp::Mode::kUser) ? "user" : "supervisor", bits.code_64() ? 64 : 32);
}

std::vector<std::byte> guest_bytes(const memory::GuestMemory& memory, const Block& block) {
  const std::size_t here = std::min<std::size_t>(block.bytes, memory::kPageSize - block.page_offset());
  const std::byte* const first = memory.page(block.physical) + block.page_offset();
  std::vector<std::byte> bytes(first, first + here);
  if (block.second_page != Block::kNone) {
    const std::byte* const second = memory.page(block.second_page);
    bytes.insert(bytes.end(), second, second + (block.bytes - here));
  }
  return bytes;
}

std::vector<std::string> list_block(const Block& block, std::span<const Site> sites, std::span<const std::byte> guest,
                                    x86::LinearAddress linear, const Trampolines& trampolines) {
  const auto code = reinterpret_cast<std::uint64_t>(block.code);
  std::vector<std::string> lines{fmt::format(
      "{} code at {:#x}, physical {:#x}: {} instructions in {} bytes; {} bytes at {:#x}", mode_name(block.mode), linear,
      block.physical, block.instructions, block.bytes, block.code_size, code)};
  const bool code_64 = interp::Mode{block.mode}.code_64();
  HostCode host(block, sites, trampolines);
  for (std::size_t i = 0; i < block.marks.size(); ++i) {
    const std::size_t offset = block.marks[i].page_offset - block.page_offset();
    host.list_to(block.marks[i].code_offset, lines);
    if (i < block.instructions && offset < guest.size()) {
      const isa::DisassembledInsn insn = isa::disassemble_one(guest.subspan(offset), linear + offset, code_64);
      lines.push_back(fmt::format("    {:x}  {}", linear + offset, insn.text));
    }
    const std::size_t end = i + 1 < block.marks.size() ? block.marks[i + 1].code_offset : block.code_size;
    host.list_to(end, lines);
  }
  return lines;
}

}  // namespace doppel::engine::dbt
