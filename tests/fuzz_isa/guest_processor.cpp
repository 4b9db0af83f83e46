#include "fuzz_isa/guest_processor.h"

#include <cstring>
#include <initializer_list>

#include "base/bits.h"
#include "x86/registers.h"

namespace doppel::fuzz_isa {

namespace {

// Physical addresses; the first 2 MiB are also at kKernel, for CPL 0 only.
constexpr std::uint64_t kPml4 = 0x1000, kPdptLow = 0x2000, kPdLow = 0x3000, kPtCode = 0x4000, kPtData = 0x5000,
                        kPdptHigh = 0x6000, kPdHigh = 0x7000, kGdt = 0x8000, kIdt = 0x9000, kTss = 0xA000,
                        kHandlers = 0xB000, kStackTop = 0xE000, kLdt = 0xF000, kPtWayOut = 0x1'0000,
                        kWayOutPage = 0x1'1000, kCode = 0x20'0000, kData = 0x30'0000;
constexpr std::uint64_t kKernel = 0xFFFF'FFFF'8000'0000;
constexpr std::uint64_t kHandlerSize = 16, kTssSize = 104;
constexpr std::uint16_t kKernelCode = 0x10, kTssSelector = 0x40, kLdtSelector = 0x50;
constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80, kNoExecute = bit(63);

/// As Linux has them (arch/x86/include/asm/segment.h), by selector / 8; the task-state segment at 40h is ours.
constexpr std::array<std::uint64_t, 16> kDescriptors{
    0,
    0x00CF'9B00'0000'FFFF,
    0x00AF'9B00'0000'FFFF,
    0x00CF'9300'0000'FFFF,
    0x00CF'FB00'0000'FFFF,
    0x00CF'F300'0000'FFFF,
    0x00AF'FB00'0000'FFFF,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0x0040'F500'0000'0000,  // its limit tells the number of the processor
};

constexpr auto kLocalDescriptors = [] {
  std::array<std::uint64_t, kLocalSegments.size()> descriptors{};
  for (std::size_t i = 1; i < descriptors.size(); ++i) descriptors[i] = kLocalSegments[i].descriptor();
  return descriptors;
}();

bool has_error_code(std::uint8_t vector) {
  using namespace x86::vector;
  return vector == kDf || (vector >= kTs && vector <= kPf) || vector == kAc;
}

/// Only what cases start with.
x86::Segment flat_segment(std::uint16_t selector) {
  using x86::Segment;
  constexpr std::uint32_t kUserSegment = 3 << 5 | Segment::kS | Segment::kP | Segment::kG;
  constexpr std::uint32_t kCode = 0xB, kData = 3;
  if (selector < 4) return {0, 0, Segment::kUnusable, selector};
  const std::uint32_t kind = selector == kUserCode64   ? kCode | Segment::kL
                             : selector == kUserCode32 ? kCode | Segment::kDb
                                                       : kData | Segment::kDb;
  return {0, 0xFFFF'FFFF, kind | kUserSegment, selector};
}

x86::Segment start_segment(std::uint16_t selector) {
  using x86::Segment;
  const LocalSegment* local = local_segment(selector);
  if (local == nullptr) return flat_segment(selector);
  const std::uint32_t attributes =
      local->type() | 3U << 5 | Segment::kS | Segment::kP | (local->big ? Segment::kDb : 0);
  return {local->base, local->limit, attributes, selector};
}

}  // namespace

GuestProcessor::GuestProcessor(std::unique_ptr<engine::Engine> engine)
    : LoneProcessor(std::move(engine), 16 << 20), data_(reinterpret_cast<std::uint8_t*>(memory_->page(kData))) {
  build_tables();
  using namespace x86;
  base_.reset(false, true);
  base_.cr0 = cr0::kPe | cr0::kPg | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kMp | cr0::kAm;
  base_.cr3 = kPml4;
  base_.cr4 = cr4::kPae | cr4::kPge | cr4::kOsfxsr | cr4::kOsxmmexcpt | cr4::kOsxsave | cr4::kFsgsbase;
  base_.xcr0 = xcr0::kX87 | xcr0::kSse | xcr0::kAvx;
  base_.efer = efer::kLme | efer::kLma | efer::kSce | efer::kNxe;
  base_.gdtr = {kKernel + kGdt, sizeof kDescriptors - 1};
  base_.idtr = {kKernel + kIdt, 0xFFF};
  base_.tr = {kKernel + kTss, kTssSize - 1, Segment::kP | 11, kTssSelector};
  base_.ldtr = {kKernel + kLdt, sizeof kLocalDescriptors - 1, Segment::kP | 2, kLdtSelector};
}

void GuestProcessor::build_tables() {
  const auto put = [this](std::uint64_t address, std::uint64_t value) { (void)memory_->write_value(address, value); };
  constexpr std::uint64_t kTable = kPresent | kWritable | kUser;
  const auto index = [](std::uint64_t linear, unsigned level) { return linear >> (12 + 9 * level) & 511; };
  put(kPml4 + 8 * index(kCodeBase, 3), kPdptLow | kTable);
  put(kPdptLow + 8 * index(kCodeBase, 2), kPdLow | kTable);
  put(kPdLow + 8 * index(kCodeBase, 1), kPtCode | kTable);
  for (std::uint64_t page = 0; page < kCodePages; ++page)
    put(kPtCode + 8 * page, (kCode + page * 4096) | kPresent | kUser);
  constexpr std::uint8_t kInt3 = 0xCC;
  (void)memory_->write_value(kWayOutPage, kInt3);
  put(kPtWayOut + 8 * index(kWayOut, 0), kWayOutPage | kPresent | kUser);
  put(kPdLow + 8 * index(kWayOut, 1), kPtWayOut | kTable);
  put(kPdLow + 8 * index(kDataBase, 1), kPtData | kTable);
  for (std::uint64_t page = 0; page < kDataSize / 4096; ++page) {
    const bool writable = page < kWritableSize / 4096;
    put(kPtData + 8 * page, (kData + page * 4096) | kPresent | kUser | (writable ? kWritable : 0) | kNoExecute);
  }
  put(kPml4 + 8 * index(kKernel, 3), kPdptHigh | kPresent | kWritable);
  put(kPdptHigh + 8 * index(kKernel, 2), kPdHigh | kPresent | kWritable);
  put(kPdHigh + 8 * index(kKernel, 1), kPresent | kWritable | kLarge);

  for (std::size_t i = 0; i < kDescriptors.size(); ++i) put(kGdt + 8 * i, kDescriptors[i]);
  for (std::size_t i = 0; i < kLocalDescriptors.size(); ++i) put(kLdt + 8 * i, kLocalDescriptors[i]);
  put(kTss + 4, kKernel + kStackTop);
  put(kTss + 102, 0xFFFF);  // no I/O permission bitmap
  for (std::uint64_t vector = 0; vector < 256; ++vector) {
    const std::uint64_t handler = kKernel + kHandlers + vector * kHandlerSize;
    const bool for_users = vector == x86::vector::kBp || vector == x86::vector::kOf;
    (void)memory_->write_value(kHandlers + vector * kHandlerSize, kHlt);
    put(kIdt + 16 * vector, (handler & 0xFFFF) | std::uint64_t{kKernelCode} << 16 |
                                std::uint64_t{for_users ? 0xEE00U : 0x8E00U} << 32 | (handler >> 16 & 0xFFFF) << 48);
    put(kIdt + 16 * vector + 8, handler >> 32);
  }
}

void GuestProcessor::prepare(std::span<const std::uint8_t> code, const Memory& memory) {
  (void)memory_->write(kCode, std::as_bytes(code));
  template_ = memory;
  dirty_ = false;
  std::memcpy(data_, memory.data(), kDataSize);
}

Outcome GuestProcessor::run(const Image& start) {
  using x86::SegReg;
  if (dirty_) std::memcpy(data_, template_.data(), kWritableSize);
  state_ = base_;
  state_.gpr = start.gpr;
  state_.rip = start.rip;
  state_.set_rflags(start.rflags);
  state_.seg(SegReg::Cs) = start_segment(start.cs);
  state_.seg(SegReg::Ss) = start_segment(start.ss);
  state_.seg(SegReg::Ds) = start_segment(start.ds);
  state_.seg(SegReg::Es) = start_segment(start.es);
  state_.seg(SegReg::Fs) = start_segment(start.fs);
  state_.seg(SegReg::Gs) = start_segment(start.gs);
  state_.seg(SegReg::Fs).base = start.fs_base;
  state_.seg(SegReg::Gs).base = start.gs_base;
  state_.fpu = start.fpu;
  state_.ymm = start.ymm;
  attention_.clear(x86::Attention::kStop);
  vcpu_->load(state_);
  const engine::Exit exit = vcpu_->run();
  vcpu_->store(state_);

  Outcome outcome;
  outcome.end.gpr = state_.gpr;
  outcome.end.fpu = state_.fpu;
  outcome.end.ymm = state_.ymm;
  outcome.end.ds = state_.seg(SegReg::Ds).selector;
  outcome.end.es = state_.seg(SegReg::Es).selector;
  outcome.end.fs = state_.seg(SegReg::Fs).selector;
  outcome.end.gs = state_.seg(SegReg::Gs).selector;
  outcome.end.fs_base = state_.seg(SegReg::Fs).base;
  outcome.end.gs_base = state_.seg(SegReg::Gs).base;
  outcome.memory = digest(data_, template_);
  dirty_ = outcome.memory != 0;
  const std::uint64_t handler = state_.rip - 1 - (kKernel + kHandlers);
  if (exit.reason != engine::ExitReason::Halted || handler >= 256 * kHandlerSize) {
    outcome.kind = exit.reason == engine::ExitReason::Stopped ? Outcome::Kind::Endless : Outcome::Kind::Broken;
    outcome.end.rip = state_.rip;
    outcome.end.rflags = state_.rflags();
    return outcome;
  }
  outcome.kind = Outcome::Kind::Exception;
  outcome.vector = static_cast<std::uint8_t>(handler / kHandlerSize);
  std::uint64_t frame = state_.gpr[x86::kRsp] - kKernel;
  const auto pop = [&] {
    std::uint64_t value = 0;
    (void)memory_->read_value(frame, value);
    frame += 8;
    return value;
  };
  if (has_error_code(outcome.vector)) outcome.error_code = static_cast<std::uint32_t>(pop());
  if (outcome.vector == x86::vector::kPf) outcome.address = state_.cr2;
  outcome.end.rip = pop();
  outcome.end.cs = static_cast<std::uint16_t>(pop());
  outcome.end.rflags = pop();
  outcome.end.gpr[x86::kRsp] = pop();
  outcome.end.ss = static_cast<std::uint16_t>(pop());
  if (outcome.vector == x86::vector::kBp && outcome.end.rip == kWayOut + 1 && outcome.end.cs == kUserCode64) {
    outcome.kind = Outcome::Kind::End;
    outcome.vector = 0;
    outcome.end.rip = 0;
    outcome.end.cs = 0;
  }
  return outcome;
}

}  // namespace doppel::fuzz_isa
