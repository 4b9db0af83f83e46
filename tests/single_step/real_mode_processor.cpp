#include "single_step/real_mode_processor.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"

namespace doppel::single_step {

namespace {

constexpr std::uint64_t kRamSize = 17 << 20;
/// NT and IOPL: the 80286's are zero in real mode, the 8086's four upper bits are ones, later ones' can be changed.
constexpr std::uint32_t kUpperFlags = 0xF000;
constexpr std::uint8_t kHlt = 0xF4;

constexpr std::array kNames{"cr0", "cr3", "eax", "ebx", "ecx", "edx", "esi", "edi",   "ebp", "esp",
                            "cs",  "ds",  "es",  "fs",  "gs",  "ss",  "eip", "flags", "dr6", "dr7"};

struct Gpr {
  Register reg;
  unsigned number;
};
constexpr std::array kGprs{Gpr{kEax, x86::kRax}, Gpr{kEbx, x86::kRbx}, Gpr{kEcx, x86::kRcx}, Gpr{kEdx, x86::kRdx},
                           Gpr{kEsi, x86::kRsi}, Gpr{kEdi, x86::kRdi}, Gpr{kEbp, x86::kRbp}, Gpr{kEsp, x86::kRsp}};
struct SegmentRegister {
  Register reg;
  x86::SegReg number;
};
constexpr std::array kSegments{SegmentRegister{kCs, x86::SegReg::Cs}, SegmentRegister{kDs, x86::SegReg::Ds},
                               SegmentRegister{kEs, x86::SegReg::Es}, SegmentRegister{kFs, x86::SegReg::Fs},
                               SegmentRegister{kGs, x86::SegReg::Gs}, SegmentRegister{kSs, x86::SegReg::Ss}};

/// Flags that the manuals leave undefined after the instruction.
std::uint32_t undefined_flags(const Vector& vector) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16);
  ZydisDecodedInstruction decoded;
  const auto status =
      ZydisDecoderDecodeInstruction(&decoder, nullptr, vector.bytes.data(), vector.bytes.size(), &decoded);
  if (!ZYAN_SUCCESS(status) || decoded.cpu_flags == nullptr) return 0;
  return decoded.cpu_flags->undefined;
}

}  // namespace

RealModeProcessor::RealModeProcessor(std::unique_ptr<engine::Engine> engine, std::uint32_t address_mask)
    : LoneProcessor(std::move(engine), kRamSize), address_mask_(address_mask) {
  engine::DebugRequest steps;
  steps.single_step = true;
  vcpu_->set_debug(steps);
}

void RealModeProcessor::put(const Snapshot& snapshot) {
  for (const auto& [address, byte] : snapshot.ram) {
    (void)memory_->write_value(address & address_mask_, byte);
    if (const auto beyond = wrapped(address)) (void)memory_->write_value(*beyond, byte);
  }
}

/// An address of 20 bits that segment and offset may also reach as one beyond 1 MiB.
std::optional<std::uint32_t> RealModeProcessor::wrapped(std::uint32_t address) const {
  constexpr std::uint32_t kMegabyte = 0x10'0000, kReach = 0xFFF0;
  if (address_mask_ != kMegabyte - 1 || (address & address_mask_) >= kReach) return std::nullopt;
  return (address & address_mask_) + kMegabyte;
}

/// What is there, at one of both addresses, after an instruction that found `before`.
std::uint8_t RealModeProcessor::byte_at(std::uint32_t address, std::uint8_t before) const {
  std::uint8_t is = 0;
  (void)memory_->read_value(address & address_mask_, is);
  if (const auto beyond = wrapped(address); beyond && is == before) (void)memory_->read_value(*beyond, is);
  return is;
}

/// Until RIP has moved, for a repeated string instruction is many steps.
void RealModeProcessor::step(const Vector& vector) {
  constexpr unsigned kMostSteps = 70'000;
  const std::uint64_t rip = state_.rip;
  const std::uint16_t cs = state_.seg(x86::SegReg::Cs).selector;
  const bool string = vector.name.find("rep") != std::string::npos;
  vcpu_->load(state_);
  for (unsigned i = 0; i < kMostSteps; ++i) {
    vcpu_->run();
    vcpu_->store(state_);
    if (!string || state_.rip != rip || state_.seg(x86::SegReg::Cs).selector != cs) return;
  }
}

std::uint32_t RealModeProcessor::value(unsigned reg) const {
  for (const Gpr& gpr : kGprs)
    if (gpr.reg == reg) return static_cast<std::uint32_t>(state_.gpr[gpr.number]);
  for (const SegmentRegister& segment : kSegments)
    if (segment.reg == reg) return state_.seg(segment.number).selector;
  return static_cast<std::uint32_t>(reg == kEip ? state_.rip : state_.rflags());
}

bool RealModeProcessor::took(std::uint8_t exception) const {
  constexpr unsigned kOffsetBits = 16;
  return (std::uint64_t{state_.seg(x86::SegReg::Cs).selector} << kOffsetBits | state_.rip) == handlers_[exception];
}

std::string RealModeProcessor::differences(const Vector& vector, bool halts) {
  put(vector.initial);
  state_ = {};
  state_.reset(false, true);
  const Registers& start = vector.initial.registers;
  for (const Gpr& gpr : kGprs) state_.gpr[gpr.number] = start.value[gpr.reg];
  for (const SegmentRegister& segment : kSegments) {
    const auto selector = static_cast<std::uint16_t>(start.value[segment.reg]);
    const std::uint32_t attributes = state_.seg(segment.number).attributes;
    state_.seg(segment.number) = {std::uint64_t{selector} << 4, 0xFFFF, attributes, selector};
  }
  state_.rip = start.value[kEip];
  state_.set_rflags(start.value[kEflags] & 0xFFFF & ~kUpperFlags);
  for (std::size_t i = 0; i < handlers_.size(); ++i) (void)memory_->read_value(4 * i, handlers_[i]);
  step(vector);

  std::string text;
  // A division error leaves all undefined; not every file tells that there was one.
  const bool division_error = took(x86::vector::kDe);
  const std::uint32_t undefined = division_error ? std::uint32_t{x86::rflags::kStatus} : undefined_flags(vector);
  std::optional<std::uint32_t> pushed_flags = vector.pushed_flags;
  if (division_error)
    pushed_flags =
        static_cast<std::uint32_t>(state_.seg(x86::SegReg::Ss).base + ((state_.gpr[x86::kRsp] + 4) & 0xFFFF));
  const Registers& end = vector.final.registers;
  for (unsigned reg = kEax; reg <= kEflags; ++reg) {
    if (!start.has(reg)) continue;
    std::uint32_t wanted = end.has(reg) ? end.value[reg] : start.value[reg];
    std::uint32_t mask = vector.masks.has(reg) ? vector.masks.value[reg] : 0xFFFF'FFFF;
    if (reg == kEip && halts && vector.bytes.front() != kHlt) wanted -= 1;
    if (reg == kEip) mask &= 0xFFFF;
    if (reg == kEflags) mask &= 0xFFFF & ~kUpperFlags & ~undefined;
    if (reg >= kCs && reg <= kSs) mask &= 0xFFFF;
    const std::uint32_t is = value(reg);
    if (((is ^ wanted) & mask) != 0) text += fmt::format("  {}: is {:x}, was {:x}\n", kNames[reg], is, wanted);
  }
  for (const auto& [address, byte] : vector.final.ram) {
    const auto& ram = vector.initial.ram;
    const auto before =
        std::find_if(ram.begin(), ram.end(), [at = address](const auto& byte) { return byte.first == at; });
    const std::uint8_t is = byte_at(address, before == ram.end() ? std::uint8_t{0} : before->second);
    std::uint32_t mask = 0xFF;
    if (address == pushed_flags) mask &= ~undefined;
    if (pushed_flags && address == *pushed_flags + 1) mask &= ~((undefined | kUpperFlags) >> 8);
    if (((is ^ byte) & mask) != 0) text += fmt::format("  {:x}: is {:02x}, was {:02x}\n", address, is, byte);
  }
  for (const Snapshot* snapshot : {&vector.initial, &vector.final})
    for (const auto& [address, byte] : snapshot->ram) {
      (void)memory_->write_value(address & address_mask_, std::uint8_t{0});
      if (const auto beyond = wrapped(address)) (void)memory_->write_value(*beyond, std::uint8_t{0});
    }
  return text;
}

}  // namespace doppel::single_step
