#include <algorithm>
#include <cstring>

#include "engine/interp/handlers.h"
#include "engine/interp/operands.h"
#include "engine/interp/string_registers.h"
#include "x86/fault.h"

/// MOVS, STOS, LODS, CMPS and SCAS; SDM vol. 2. Each iteration is complete in itself: registers hold the state between
/// two, faults and interrupts leave the rest to a restart. Runs of iterations inside one page are done at once where
/// nobody could tell.
namespace doppel::engine::interp {

namespace {

using isa::Insn;
using x86::Access;
using x86::SegReg;
namespace rflags = x86::rflags;

template <class T>
T read(Context& context, SegReg segment, std::uint64_t offset) {
  const x86::LinearAddress address = x86::segment_address(context.cpu, segment, offset, sizeof(T), Access::Read);
  return context.cpu.mmu.read<T>(address, data_view(context));
}
template <class T>
void write(Context& context, std::uint64_t offset, T value) {
  const x86::LinearAddress address = x86::segment_address(context.cpu, SegReg::Es, offset, sizeof(T), Access::Write);
  context.cpu.mmu.write<T>(address, value, data_view(context));
}

template <class T>
void set_accumulator(x86::CpuState& state, T value) {
  std::uint64_t& rax = state.gpr[x86::kRax];
  if constexpr (sizeof(T) >= 4) {
    rax = value;
  } else {
    rax = (rax & ~low_mask(sizeof(T) * 8)) | value;
  }
}

/// The flags of `left` - `right`, as CMP sets them.
template <class T>
void compare(x86::CpuState& state, T left, T right) {
  const T result = static_cast<T>(left - right);
  constexpr unsigned kTopBit = sizeof(T) * 8 - 1;
  std::uint64_t flags = 0;
  if (left < right) flags |= rflags::kCf;
  if (__builtin_parity(static_cast<std::uint8_t>(result)) == 0) flags |= rflags::kPf;
  if (((left ^ right ^ result) & 0x10) != 0) flags |= rflags::kAf;
  if (result == 0) flags |= rflags::kZf;
  if ((result >> kTopBit & 1) != 0) flags |= rflags::kSf;
  state.rflags_without_of = (state.rflags_without_of & ~rflags::kStatus) | flags;
  state.of = static_cast<std::uint8_t>(((left ^ right) & (left ^ result)) >> kTopBit & 1);
}

struct Movs {
  static constexpr bool kSource = true, kDestination = true, kCompares = false;
  template <class T>
  static void once(Context& context, const StringRegisters& registers, SegReg segment) {
    write<T>(context, registers.destination(), read<T>(context, segment, registers.source()));
  }
};
struct Stos {
  static constexpr bool kSource = false, kDestination = true, kCompares = false;
  template <class T>
  static void once(Context& context, const StringRegisters& registers, SegReg) {
    write<T>(context, registers.destination(), static_cast<T>(context.cpu.state.gpr[x86::kRax]));
  }
};
struct Lods {
  static constexpr bool kSource = true, kDestination = false, kCompares = false;
  template <class T>
  static void once(Context& context, const StringRegisters& registers, SegReg segment) {
    set_accumulator(context.cpu.state, read<T>(context, segment, registers.source()));
  }
};
struct Cmps {
  static constexpr bool kSource = true, kDestination = true, kCompares = true;
  template <class T>
  static void once(Context& context, const StringRegisters& registers, SegReg segment) {
    const T left = read<T>(context, segment, registers.source());
    compare(context.cpu.state, left, read<T>(context, SegReg::Es, registers.destination()));
  }
};
struct Scas {
  static constexpr bool kSource = false, kDestination = true, kCompares = true;
  template <class T>
  static void once(Context& context, const StringRegisters& registers, SegReg) {
    compare(context.cpu.state, static_cast<T>(context.cpu.state.gpr[x86::kRax]),
            read<T>(context, SegReg::Es, registers.destination()));
  }
};

/// Iterations that fit from `offset` to the end of its page, and before the offset wraps.
std::uint64_t iterations_in_page(std::uint64_t linear, std::uint64_t offset, std::uint64_t mask, unsigned size) {
  const std::uint64_t to_page_end = memory::kPageSize - (linear & (memory::kPageSize - 1));
  const std::uint64_t to_wrap = mask - offset;  // one byte short, so that it cannot overflow
  return std::min(to_page_end, to_wrap) / size;
}

/// Forward STOS and MOVS within one page of RAM each: how many iterations were done at once, 0 when not possible.
template <class T>
std::uint64_t fill(Context& context, const StringRegisters& registers, std::uint64_t count) {
  const std::uint64_t offset = registers.destination();
  const x86::LinearAddress linear = x86::segment_address(context.cpu, SegReg::Es, offset, sizeof(T), Access::Write);
  count = std::min(count, iterations_in_page(linear, offset, registers.mask(), sizeof(T)));
  if (count < 2) return 0;
  x86::segment_address(context.cpu, SegReg::Es, offset, count * sizeof(T), Access::Write);
  std::byte* host = context.cpu.mmu.host(linear, count * sizeof(T), Access::Write, data_view(context));
  if (host == nullptr) return 0;
  const auto value = static_cast<T>(context.cpu.state.gpr[x86::kRax]);
  if constexpr (sizeof(T) == 1) {
    std::memset(host, value, count);
  } else {
    for (std::uint64_t i = 0; i < count; ++i) store_le(host + i * sizeof(T), value);
  }
  context.cpu.mmu.wrote(linear, count * sizeof(T), data_view(context));
  return count;
}

template <class T>
std::uint64_t copy(Context& context, const StringRegisters& registers, SegReg segment, std::uint64_t count) {
  const std::uint64_t to = registers.destination(), from = registers.source();
  const x86::LinearAddress source = x86::segment_address(context.cpu, segment, from, sizeof(T), Access::Read);
  const x86::LinearAddress target = x86::segment_address(context.cpu, SegReg::Es, to, sizeof(T), Access::Write);
  count = std::min(count, iterations_in_page(source, from, registers.mask(), sizeof(T)));
  count = std::min(count, iterations_in_page(target, to, registers.mask(), sizeof(T)));
  if (count < 2) return 0;
  const std::uint64_t bytes = count * sizeof(T);
  x86::segment_address(context.cpu, segment, from, bytes, Access::Read);
  x86::segment_address(context.cpu, SegReg::Es, to, bytes, Access::Write);
  const std::byte* source_host = context.cpu.mmu.host(source, bytes, Access::Read, data_view(context));
  if (source_host == nullptr) return 0;
  std::byte* target_host = context.cpu.mmu.host(target, bytes, Access::Write, data_view(context));
  // The second look-up may have replaced the first one's page; a host page, once found, stays RAM all the same.
  if (target_host == nullptr) return 0;
  // An overlap is judged where the bytes are: different addresses may share a page.
  const bool apart = target_host + bytes <= source_host || source_host + bytes <= target_host;
  if (apart) {
    std::memcpy(target_host, source_host, bytes);
  } else {
    for (std::uint64_t i = 0; i < bytes; i += sizeof(T)) store_le(target_host + i, load_le<T>(source_host + i));
  }
  context.cpu.mmu.wrote(target, bytes, data_view(context));
  return count;
}

template <class Operation, class T>
std::uint64_t several(Context& context, const StringRegisters& registers, SegReg segment, std::uint64_t count) {
  if (registers.backward()) return 0;
  try {
    if constexpr (std::is_same_v<Operation, Stos>) return fill<T>(context, registers, count);
    if constexpr (std::is_same_v<Operation, Movs>) return copy<T>(context, registers, segment, count);
  } catch (const x86::Fault&) {
    // Which fault it is, of source or destination, the single iteration finds out in the right order.
  }
  return 0;
}

template <class Operation, class T>
void single(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  StringRegisters registers(context.cpu.state, op->insn->address_size, sizeof(T));
  Operation::template once<T>(context, registers, op->insn->mem.segment);
  registers.advance(Operation::kSource, Operation::kDestination, 1);
  return next_after_store(thunk_context, op);
}

/// REPE and REPNE end early where the comparison says so.
template <class Operation>
bool compared_enough(const Context& context, const Insn& insn) {
  if constexpr (!Operation::kCompares) return false;
  const bool equal = (context.cpu.state.rflags_without_of & rflags::kZf) != 0;
  return equal == insn.repne;
}

template <class Operation, class T>
void repeated(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  const Insn& insn = *op->insn;
  StringRegisters registers(context.cpu.state, insn.address_size, sizeof(T));
  const x86::Cpu& cpu = context.cpu;
  const bool one_at_a_time = cpu.single_step || cpu.mmu.has_watches() || cpu.mmu.checks_alignment();
  bool done = registers.count() == 0;
  while (!done) {
    const std::uint64_t many =
        one_at_a_time ? 0 : several<Operation, T>(context, registers, insn.mem.segment, registers.count());
    if (many == 0) Operation::template once<T>(context, registers, insn.mem.segment);
    registers.advance(Operation::kSource, Operation::kDestination, std::max<std::uint64_t>(many, 1));
    registers.count_down(std::max<std::uint64_t>(many, 1));
    done = registers.count() == 0 || compared_enough<Operation>(context, insn);
    // Between iterations everything may happen that happens between instructions. A single step traps after each.
    if (!done && must_pause_repetition(context)) return stop_before(context, op);
  }
  return next_after_store(thunk_context, op);
}

template <class Operation>
Handler handler_for(unsigned size, bool repeats) {
  switch (size) {
    case 1:
      return repeats ? repeated<Operation, std::uint8_t> : single<Operation, std::uint8_t>;
    case 2:
      return repeats ? repeated<Operation, std::uint16_t> : single<Operation, std::uint16_t>;
    case 4:
      return repeats ? repeated<Operation, std::uint32_t> : single<Operation, std::uint32_t>;
    default:
      return repeats ? repeated<Operation, std::uint64_t> : single<Operation, std::uint64_t>;
  }
}

}  // namespace

Handler string_handler(const Insn& insn) {
  if (!insn.string) return nullptr;
  const bool repeats = insn.rep || insn.repne;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
      return handler_for<Movs>(1, repeats);
    case ZYDIS_MNEMONIC_MOVSW:
      return handler_for<Movs>(2, repeats);
    case ZYDIS_MNEMONIC_MOVSD:
      return handler_for<Movs>(4, repeats);
    case ZYDIS_MNEMONIC_MOVSQ:
      return handler_for<Movs>(8, repeats);
    case ZYDIS_MNEMONIC_STOSB:
      return handler_for<Stos>(1, repeats);
    case ZYDIS_MNEMONIC_STOSW:
      return handler_for<Stos>(2, repeats);
    case ZYDIS_MNEMONIC_STOSD:
      return handler_for<Stos>(4, repeats);
    case ZYDIS_MNEMONIC_STOSQ:
      return handler_for<Stos>(8, repeats);
    case ZYDIS_MNEMONIC_LODSB:
      return handler_for<Lods>(1, repeats);
    case ZYDIS_MNEMONIC_LODSW:
      return handler_for<Lods>(2, repeats);
    case ZYDIS_MNEMONIC_LODSD:
      return handler_for<Lods>(4, repeats);
    case ZYDIS_MNEMONIC_LODSQ:
      return handler_for<Lods>(8, repeats);
    case ZYDIS_MNEMONIC_CMPSB:
      return handler_for<Cmps>(1, repeats);
    case ZYDIS_MNEMONIC_CMPSW:
      return handler_for<Cmps>(2, repeats);
    case ZYDIS_MNEMONIC_CMPSD:
      return handler_for<Cmps>(4, repeats);
    case ZYDIS_MNEMONIC_CMPSQ:
      return handler_for<Cmps>(8, repeats);
    case ZYDIS_MNEMONIC_SCASB:
      return handler_for<Scas>(1, repeats);
    case ZYDIS_MNEMONIC_SCASW:
      return handler_for<Scas>(2, repeats);
    case ZYDIS_MNEMONIC_SCASD:
      return handler_for<Scas>(4, repeats);
    case ZYDIS_MNEMONIC_SCASQ:
      return handler_for<Scas>(8, repeats);
    default:
      return nullptr;
  }
}

}  // namespace doppel::engine::interp
