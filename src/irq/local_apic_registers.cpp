// The register file of the local APIC as the guest sees it: the xAPIC page and the x2APIC MSRs.
#include <array>

#include "irq/local_apic.h"
#include "irq/local_apic_bits.h"

namespace doppel::irq {
namespace {

/// Bits of each LVT register that software may write (SDM vol. 3, figure 11-8), from the timer's on.
constexpr std::array<std::uint32_t, 6> kLvtWritable = {
    0xFF | kLvtMasked | kLvtTimerMode,                                            // timer
    0xFF | kLvtMasked | kLvtDeliveryMode,                                         // thermal sensor
    0xFF | kLvtMasked | kLvtDeliveryMode,                                         // performance counters
    0xFF | kLvtMasked | kLvtDeliveryMode | kLvtPolarityLow | kLvtLevelTriggered,  // LINT0
    0xFF | kLvtMasked | kLvtDeliveryMode | kLvtPolarityLow | kLvtLevelTriggered,  // LINT1
    0xFF | kLvtMasked,                                                            // error
};
constexpr std::uint32_t kLvtReadOnly = kDeliveryStatus | kLvtRemoteIrr;
constexpr std::uint32_t kSvrWritable = 0x1FF;

/// Bits that a WRMSR to an x2APIC register may set; none for registers that cannot be written.
constexpr std::uint64_t x2apic_writable(unsigned number) {
  switch (number) {
    case 0x08:  // TPR
      return 0xFF;
    case 0x0B:  // EOI
    case 0x28:  // ESR
      return 0;
    case 0x0F:  // SVR
      return kSvrWritable;
    case 0x30:  // ICR
      return 0xFFFF'FFFF'0000'0000 | kIcrWritable;
    case 0x32:
    case 0x33:
    case 0x34:
    case 0x35:
    case 0x36:
    case 0x37:
      return kLvtWritable[number - 0x32] | kLvtReadOnly;
    case 0x38:  // initial count
      return 0xFFFF'FFFF;
    case 0x3E:  // divide configuration
      return 0xB;
    default:
      return 0xFF;  // self IPI
  }
}

}  // namespace

std::uint32_t LocalApic::version() const {
  return 0x14 | (kLvtCount - 1) << 16;
}

std::optional<std::uint32_t> LocalApic::read_register(unsigned number) {
  if (number >= kIsr && number < kTmr) return isr_.word(number - kIsr);
  if (number >= kTmr && number < kIrr) return tmr_.word(number - kTmr);
  if (number >= kIrr && number < kEsr) return irr_.word(number - kIrr);
  if (number >= kLvtTimer && number <= kLvtError) return lvt(static_cast<Register>(number));
  switch (number) {
    case kId:
      return x2apic() ? config_.apic_id : id_.load(std::memory_order_relaxed) << 24;
    case kVersion:
      return version();
    case kTpr:
      return tpr_.load(std::memory_order_relaxed);
    case kPpr:
      return processor_priority();
    case kLdr:
      return x2apic() ? x2apic_ldr() : ldr_.load(std::memory_order_relaxed);
    case kSvr:
      return svr_.load(std::memory_order_relaxed);
    case kEsr:
      return esr_;
    case kIcrLow:
      return icr_low_;
    case kInitialCount:
      return timer_.initial_count();
    case kCurrentCount:
      return timer_.current_count();
    case kDivideConfiguration:
      return timer_.divide_configuration();
    default:
      break;
  }
  if (x2apic()) return std::nullopt;
  switch (number) {
    case kApr:  // arbitration is the bus's business: as if it had none to win
    case kRrd:
    case kEoi:
      return 0;
    case kDfr:
      return dfr_.load(std::memory_order_relaxed);
    case kIcrHigh:
      return icr_high_;
    default:
      return std::nullopt;
  }
}

bool LocalApic::write_register(unsigned number, std::uint32_t value) {
  if (number >= kLvtTimer && number <= kLvtError) {
    write_lvt(static_cast<Register>(number), value);
    return true;
  }
  switch (number) {
    case kTpr:
      tpr_.store(value & 0xFF, std::memory_order_relaxed);
      signal_if_pending();
      return true;
    case kEoi:
      end_of_interrupt();
      return true;
    case kSvr:
      write_svr(value);
      return true;
    case kEsr:
      esr_ = errors_.exchange(0, std::memory_order_acq_rel);
      return true;
    case kInitialCount:
      timer_.set_initial_count(value);
      return true;
    case kDivideConfiguration:
      timer_.set_divide_configuration(value);
      return true;
    default:
      break;
  }
  if (x2apic()) return false;
  switch (number) {
    case kId:
      id_.store(value >> 24, std::memory_order_relaxed);
      return true;
    case kLdr:
      ldr_.store(value & 0xFF00'0000, std::memory_order_relaxed);
      return true;
    case kDfr:
      dfr_.store(value | 0x0FFF'FFFF, std::memory_order_relaxed);
      return true;
    case kIcrLow:
      icr_low_ = value & kIcrWritable;
      send_ipi(icr_low_, widen_destination(static_cast<std::uint8_t>(icr_high_ >> 24)));
      return true;
    case kIcrHigh:
      icr_high_ = value & 0xFF00'0000;
      return true;
    case kVersion:  // read-only, but no error
    case kApr:
    case kPpr:
    case kRrd:
    case kCurrentCount:
      return true;
    default:
      return (number >= kIsr && number < kEsr);
  }
}

void LocalApic::write_svr(std::uint32_t value) {
  svr_.store(value & kSvrWritable, std::memory_order_release);
  if ((value & kSvrEnable) == 0) {
    for (auto& entry : lvt_) entry.fetch_or(kLvtMasked, std::memory_order_acq_rel);
    configure_timer();
  }
  signal_if_pending();
}

void LocalApic::write_lvt(Register entry, std::uint32_t value) {
  auto& target = lvt_[entry - kLvtTimer];
  value &= kLvtWritable[entry - kLvtTimer];
  if (!software_enabled()) value |= kLvtMasked;
  const bool keeps_remote_irr = (value & kLvtLevelTriggered) != 0;
  target.store(value | (keeps_remote_irr ? target.load(std::memory_order_relaxed) & kLvtRemoteIrr : 0),
               std::memory_order_release);
  if (entry == kLvtTimer) configure_timer();
  if (entry == kLvtLint0 || entry == kLvtLint1) {
    if (lvt_delivery_mode(value) == DeliveryMode::Fixed && keeps_remote_irr) deliver_level_lint(entry);
    signal_if_pending();  // an ExtINT may have been unmasked
  }
}

void LocalApic::configure_timer() {
  const std::uint32_t entry = lvt(kLvtTimer);
  timer_.configure(static_cast<ApicTimerMode>((entry & kLvtTimerMode) >> 17), (entry & kLvtMasked) != 0);
}

void LocalApic::send_ipi(std::uint32_t icr_low, std::uint32_t destination) {
  Message message;
  message.destination = destination;
  message.destination_mode = (icr_low & kIcrLogical) != 0 ? DestinationMode::Logical : DestinationMode::Physical;
  message.delivery_mode = lvt_delivery_mode(icr_low);
  message.vector = static_cast<std::uint8_t>(icr_low);
  const auto shorthand = static_cast<Shorthand>((icr_low >> 18) & 3);

  const bool carries_vector =
      message.delivery_mode == DeliveryMode::Fixed || message.delivery_mode == DeliveryMode::LowestPriority;
  if (carries_vector && message.vector < kFirstLegalVector) {
    raise_error(kSendIllegalVector);
    return;
  }
  // INIT level de-assert only synchronizes arbitration IDs; ExtINT and reserved modes are no IPIs (table 11-3).
  if (message.delivery_mode == DeliveryMode::Init &&
      (icr_low & (kIcrAssert | kIcrLevelTriggered)) == kIcrLevelTriggered) {
    return;
  }
  if (message.delivery_mode == DeliveryMode::ExtInt || message.delivery_mode == DeliveryMode::Reserved) return;

  switch (shorthand) {
    case Shorthand::None:
      bus_.deliver(message);
      break;
    case Shorthand::Self:
      if (message.delivery_mode == DeliveryMode::Fixed) accept(message);
      break;
    case Shorthand::AllIncludingSelf:
      if (message.delivery_mode == DeliveryMode::Fixed) bus_.deliver_to_all(message, nullptr);
      break;
    case Shorthand::AllExcludingSelf:
      bus_.deliver_to_all(message, this);
      break;
  }
}

// --- xAPIC page ---------------------------------------------------------------------------------------------------

std::uint32_t LocalApic::read(std::uint64_t offset, unsigned size) {
  const unsigned byte = offset & 0xF;
  if (byte >= 4) return 0;
  const std::optional<std::uint32_t> value = read_register(static_cast<unsigned>(offset >> 4));
  if (!value) {
    raise_error(kIllegalRegisterAddress);
    return 0;
  }
  const std::uint32_t shifted = *value >> (8 * byte);
  return size >= 4 ? shifted : shifted & ((1u << (8 * size)) - 1);
}

void LocalApic::write(std::uint64_t offset, unsigned size, std::uint32_t value) {
  if (size < 4 || (offset & 0xF) != 0) return;
  if (!write_register(static_cast<unsigned>(offset >> 4), value)) raise_error(kIllegalRegisterAddress);
}

// --- MSRs ---------------------------------------------------------------------------------------------------------

bool LocalApic::read_msr(std::uint32_t msr, std::uint64_t& value) {
  if (msr == kMsrApicBase) {
    value = apic_base();
    return true;
  }
  if (msr == kMsrTscDeadline) {
    value = timer_.tsc_deadline();
    return true;
  }
  if (msr < kMsrX2ApicFirst || msr > kMsrX2ApicLast || !x2apic()) return false;
  const unsigned number = msr - kMsrX2ApicFirst;
  if (number == kEoi || number == kSelfIpi) return false;
  const std::optional<std::uint32_t> low = read_register(number);
  if (!low) return false;
  value = *low;
  if (number == kIcrLow) value |= static_cast<std::uint64_t>(icr_high_) << 32;
  return true;
}

bool LocalApic::write_msr(std::uint32_t msr, std::uint64_t value) {
  if (msr == kMsrApicBase) return write_apic_base(value);
  if (msr == kMsrTscDeadline) {
    timer_.set_tsc_deadline(value);
    return true;
  }
  if (msr < kMsrX2ApicFirst || msr > kMsrX2ApicLast || !x2apic()) return false;
  return write_x2apic(msr - kMsrX2ApicFirst, value);
}

bool LocalApic::write_x2apic(unsigned number, std::uint64_t value) {
  if ((value & ~x2apic_writable(number)) != 0) return false;
  if (number == kSelfIpi) {
    const auto vector = static_cast<std::uint8_t>(value);
    if (vector < kFirstLegalVector) {
      raise_error(kSendIllegalVector);
    } else {
      accept_fixed(vector, TriggerMode::Edge);
    }
    return true;
  }
  if (number == kIcrLow) {
    icr_low_ = static_cast<std::uint32_t>(value);
    icr_high_ = static_cast<std::uint32_t>(value >> 32);
    send_ipi(icr_low_, icr_high_);
    return true;
  }
  return write_register(number, static_cast<std::uint32_t>(value));
}

bool LocalApic::write_apic_base(std::uint64_t value) {
  const std::uint64_t address_mask = ((std::uint64_t{1} << config_.physical_address_bits) - 1) & ApicBase::kAddressMask;
  if ((value & ~(address_mask | ApicBase::kBsp | ApicBase::kExtd | ApicBase::kEnable)) != 0) return false;
  const bool enable = (value & ApicBase::kEnable) != 0;
  const bool extd = (value & ApicBase::kExtd) != 0;
  // SDM vol. 3, figure 11-27: EXTD needs EN; x2APIC is entered from xAPIC mode only and left to the disabled state
  // only.
  if (extd && !enable) return false;
  if (x2apic() && enable && !extd) return false;
  if (!globally_enabled() && extd) return false;

  const bool leaves = globally_enabled() && !enable;
  const bool enters_x2apic = extd && !x2apic();
  apic_base_.store(value, std::memory_order_release);
  if (leaves) {
    reset_registers();
    id_.store(config_.apic_id, std::memory_order_relaxed);
  }
  if (enters_x2apic) {
    // The destination format of the ICR changes; the old high half means nothing any more.
    icr_high_ = 0;
  }
  signal_if_pending();
  return true;
}

}  // namespace doppel::irq
