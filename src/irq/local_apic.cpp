#include "irq/local_apic.h"

#include <algorithm>
#include <string>

#include "irq/local_apic_bits.h"

namespace doppel::irq {

LocalApic::LocalApic(const Config& config, ApicBus& bus, const time::VmClock& clock, time::TimerQueue& timers)
    : config_(config), bus_(bus), timer_(clock, timers, [this] { deliver_local(kLvtTimer); }) {
  reset();
  bus.attach(*this);
}

void LocalApic::reset() {
  apic_base_ = ApicBase::kDefaultAddress | ApicBase::kEnable | (config_.bootstrap ? ApicBase::kBsp : 0);
  id_ = config_.apic_id;
  for (auto& pin : lint_) pin = false;
  timer_.set_tsc_offset(0);
  reset_registers();
}

void LocalApic::init() {
  reset_registers();
}

void LocalApic::reset_registers() {
  ldr_ = 0;
  dfr_ = 0xFFFF'FFFF;
  svr_ = 0xFF;
  tpr_ = 0;
  for (auto& entry : lvt_) entry = kLvtMasked;
  irr_.clear_all();
  tmr_.clear_all();
  isr_.clear_all();
  ext_int_message_ = false;
  errors_ = 0;
  esr_ = 0;
  icr_low_ = 0;
  icr_high_ = 0;
  timer_.reset();
}

void LocalApic::enter_virtual_wire_mode() {
  write_svr(kSvrEnable | 0xFF);
  write_lvt(kLvtLint0, static_cast<std::uint32_t>(DeliveryMode::ExtInt) << 8);
  write_lvt(kLvtLint1, static_cast<std::uint32_t>(DeliveryMode::Nmi) << 8);
}

void LocalApic::describe(state::Visitor& v) {
  const auto atomic_field = [&v](unsigned number, std::string_view name, auto& field) {
    auto value = field.load(std::memory_order_relaxed);
    v.field(number, name, value);
    field.store(value, std::memory_order_relaxed);
  };
  atomic_field(1, "apic_base", apic_base_);
  atomic_field(2, "id", id_);
  atomic_field(3, "ldr", ldr_);
  atomic_field(4, "dfr", dfr_);
  atomic_field(5, "svr", svr_);
  atomic_field(6, "tpr", tpr_);
  atomic_field(7, "lvt_timer", lvt_[0]);
  atomic_field(8, "lvt_thermal", lvt_[1]);
  atomic_field(9, "lvt_perf", lvt_[2]);
  atomic_field(10, "lvt_lint0", lvt_[3]);
  atomic_field(11, "lvt_lint1", lvt_[4]);
  atomic_field(12, "lvt_error", lvt_[5]);
  v.field(13, "irr", irr_);
  v.field(14, "tmr", tmr_);
  v.field(15, "isr", isr_);
  atomic_field(16, "lint0", lint_[0]);
  atomic_field(17, "lint1", lint_[1]);
  atomic_field(18, "ext_int_message", ext_int_message_);
  atomic_field(19, "errors", errors_);
  v.field(20, "esr", esr_);
  v.field(21, "icr_low", icr_low_);
  v.field(22, "icr_high", icr_high_);
  v.field(23, "timer", timer_);
  v.on_loaded([this] { signal_if_pending(); });
}

// --- Priorities ---------------------------------------------------------------------------------------------------

unsigned LocalApic::processor_priority() const {
  const unsigned in_service = static_cast<unsigned>(std::max(isr_.highest(), 0));
  const unsigned tpr = task_priority();
  return (tpr & 0xF0) >= (in_service & 0xF0) ? tpr : in_service & 0xF0;
}

int LocalApic::deliverable_vector() const {
  if (!software_enabled()) return -1;
  const int vector = irr_.highest();
  return vector >= 0 && (static_cast<unsigned>(vector) & 0xF0) > (processor_priority() & 0xF0) ? vector : -1;
}

bool LocalApic::ext_int_pending() const {
  if (ext_int_message_.load(std::memory_order_acquire)) return true;
  if (!lint_[kLint0].load(std::memory_order_acquire)) return false;
  // A disabled APIC leaves LINT0 to be the processor's INTR pin (SDM vol. 3, 11.4.3).
  if (!globally_enabled()) return true;
  const std::uint32_t entry = lvt(kLvtLint0);
  return (entry & kLvtMasked) == 0 && lvt_delivery_mode(entry) == DeliveryMode::ExtInt;
}

bool LocalApic::pending() const {
  return ext_int_pending() || deliverable_vector() >= 0;
}

std::uint8_t LocalApic::acknowledge() {
  if (ext_int_pending() && ext_int_acknowledge_) {
    ext_int_message_.store(false, std::memory_order_release);
    const std::uint8_t vector = ext_int_acknowledge_();
    signal_if_pending();
    return vector;
  }
  const int vector = deliverable_vector();
  if (vector < 0) return static_cast<std::uint8_t>(svr_.load(std::memory_order_relaxed));
  const auto taken = static_cast<std::uint8_t>(vector);
  irr_.clear(taken);
  isr_.set(taken);
  return taken;
}

void LocalApic::set_cr8(std::uint8_t value) {
  tpr_.store((value & 0xFu) << 4, std::memory_order_relaxed);
  signal_if_pending();
}

void LocalApic::end_of_interrupt() {
  const int highest = isr_.highest();
  if (highest < 0) return;
  const auto vector = static_cast<std::uint8_t>(highest);
  isr_.clear(vector);
  if (tmr_.test(vector)) {
    bus_.broadcast_eoi(vector);
    for (const Register entry : {kLvtLint0, kLvtLint1}) {
      const std::uint32_t value = lvt(entry);
      if ((value & kLvtRemoteIrr) != 0 && (value & 0xFF) == vector) {
        lvt_[entry - kLvtTimer].fetch_and(~kLvtRemoteIrr, std::memory_order_acq_rel);
        deliver_level_lint(entry);
      }
    }
  }
  signal_if_pending();
}

// --- Arrivals -----------------------------------------------------------------------------------------------------

void LocalApic::signal(ApicSignal signal, std::uint8_t vector) const {
  if (on_signal_) on_signal_(signal, vector);
}

void LocalApic::signal_if_pending() const {
  if (pending()) signal(ApicSignal::Interrupt);
}

void LocalApic::raise_error(std::uint32_t error) {
  errors_.fetch_or(error, std::memory_order_acq_rel);
  const std::uint32_t entry = lvt(kLvtError);
  const auto vector = static_cast<std::uint8_t>(entry);
  // An illegal vector in the error entry itself only leaves its mark in the ESR.
  if ((entry & kLvtMasked) == 0 && vector >= kFirstLegalVector) accept_fixed(vector, TriggerMode::Edge);
}

void LocalApic::accept_fixed(std::uint8_t vector, TriggerMode trigger_mode) {
  if (vector < kFirstLegalVector) {
    raise_error(kReceiveIllegalVector);
    return;
  }
  if (!software_enabled()) return;
  // TMR before IRR: whoever sees the request also sees its trigger mode.
  tmr_.assign(vector, trigger_mode == TriggerMode::Level);
  irr_.set(vector);
  signal(ApicSignal::Interrupt);
}

void LocalApic::accept(const Message& message) {
  if (!globally_enabled()) return;
  switch (message.delivery_mode) {
    case DeliveryMode::Fixed:
    case DeliveryMode::LowestPriority:
      accept_fixed(message.vector, message.trigger_mode);
      break;
    case DeliveryMode::Nmi:
      signal(ApicSignal::Nmi);
      break;
    case DeliveryMode::Init:
      signal(ApicSignal::Init);
      break;
    case DeliveryMode::StartUp:
      signal(ApicSignal::StartUp, message.vector);
      break;
    case DeliveryMode::ExtInt:
      ext_int_message_.store(true, std::memory_order_release);
      signal(ApicSignal::Interrupt);
      break;
    case DeliveryMode::Smi:  // no system management mode here
    case DeliveryMode::Reserved:
      break;
  }
}

void LocalApic::deliver_local(Register entry) {
  const std::uint32_t value = lvt(entry);
  if (!globally_enabled() || (value & kLvtMasked) != 0) return;
  const auto vector = static_cast<std::uint8_t>(value);
  const bool has_mode = entry != kLvtTimer && entry != kLvtError;
  switch (has_mode ? lvt_delivery_mode(value) : DeliveryMode::Fixed) {
    case DeliveryMode::Fixed:
      accept_fixed(vector, TriggerMode::Edge);
      break;
    case DeliveryMode::Nmi:
      signal(ApicSignal::Nmi);
      break;
    case DeliveryMode::Init:
      signal(ApicSignal::Init);
      break;
    default:  // ExtINT is a level that ext_int_pending() looks at; SMI and the rest do nothing
      break;
  }
}

void LocalApic::deliver_level_lint(Register entry) {
  const std::uint32_t value = lvt(entry);
  const unsigned pin = entry - kLvtLint0;
  if ((value & (kLvtMasked | kLvtRemoteIrr)) != 0 || !lint_[pin].load(std::memory_order_acquire)) return;
  lvt_[entry - kLvtTimer].fetch_or(kLvtRemoteIrr, std::memory_order_acq_rel);
  accept_fixed(static_cast<std::uint8_t>(value), TriggerMode::Level);
}

void LocalApic::set_input(unsigned pin, bool high) {
  if (pin > kLint1) return;
  const bool before = lint_[pin].exchange(high, std::memory_order_acq_rel);
  if (!high || before) return;
  if (!globally_enabled()) {
    signal(pin == kLint0 ? ApicSignal::Interrupt : ApicSignal::Nmi);
    return;
  }
  const auto entry = static_cast<Register>(kLvtLint0 + pin);
  const std::uint32_t value = lvt(entry);
  if ((value & kLvtMasked) != 0) return;
  if (lvt_delivery_mode(value) == DeliveryMode::ExtInt) {
    if (pin == kLint0) signal(ApicSignal::Interrupt);
  } else if (lvt_delivery_mode(value) == DeliveryMode::Fixed && (value & kLvtLevelTriggered) != 0) {
    deliver_level_lint(entry);
  } else {
    deliver_local(entry);
  }
}

// --- Addressing ---------------------------------------------------------------------------------------------------

bool LocalApic::software_enabled() const {
  return globally_enabled() && (svr_.load(std::memory_order_acquire) & kSvrEnable) != 0;
}

std::uint32_t LocalApic::x2apic_ldr() const {
  return (config_.apic_id >> 4) << 16 | 1u << (config_.apic_id & 0xF);
}

bool LocalApic::is_addressed_by(const Message& message) const {
  if (!globally_enabled()) return false;
  const std::uint32_t destination = message.destination;
  if (destination == kBroadcast) return true;
  if (message.destination_mode == DestinationMode::Physical) {
    return destination == (x2apic() ? config_.apic_id : id_.load(std::memory_order_relaxed));
  }
  if (x2apic()) {
    const std::uint32_t ldr = x2apic_ldr();
    return destination >> 16 == ldr >> 16 && (destination & ldr & 0xFFFF) != 0;
  }
  const std::uint32_t logical_id = ldr_.load(std::memory_order_relaxed) >> 24;
  if (dfr_.load(std::memory_order_relaxed) >> 28 == kDfrFlat) return (logical_id & destination & 0xFF) != 0;
  if ((destination & 0xFF) == 0xFF) return true;
  return (logical_id ^ destination) >> 4 == 0 && (logical_id & destination & 0xF) != 0;
}

}  // namespace doppel::irq
