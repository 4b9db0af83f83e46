#include "devices/serial16550.h"

#include <array>
#include <mutex>
#include <utility>

namespace doppel::devices {
namespace {

enum Register : std::uint64_t { kRbrThr = 0, kIer = 1, kIirFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6, kScr = 7 };

constexpr std::uint8_t kIerReceive = 0x01, kIerTransmit = 0x02, kIerLine = 0x04, kIerModem = 0x08, kIerWritable = 0x0F;
constexpr std::uint8_t kIirNone = 0x01, kIirLine = 0x06, kIirReceive = 0x04, kIirTimeout = 0x0C, kIirTransmit = 0x02,
                       kIirModem = 0x00, kIirFifos = 0xC0;
constexpr std::uint8_t kFcrEnable = 0x01, kFcrResetReceiver = 0x02, kFcrSticky = 0xC9;
constexpr std::uint8_t kLcrDlab = 0x80;
constexpr std::uint8_t kMcrDtr = 0x01, kMcrRts = 0x02, kMcrOut1 = 0x04, kMcrOut2 = 0x08, kMcrLoop = 0x10,
                       kMcrWritable = 0x1F;
constexpr std::uint8_t kLsrDataReady = 0x01, kLsrOverrun = 0x02, kLsrBreak = 0x10, kLsrThrEmpty = 0x20,
                       kLsrEmpty = 0x40, kLsrFifoError = 0x80;
constexpr std::uint8_t kMsrDeltaCts = 0x01, kMsrDeltaDsr = 0x02, kMsrTrailingRi = 0x04, kMsrDeltaDcd = 0x08,
                       kMsrCts = 0x10, kMsrDsr = 0x20, kMsrRi = 0x40, kMsrDcd = 0x80;
/// What the other end shows while it is there.
constexpr std::uint8_t kConnected = kMsrCts | kMsrDsr | kMsrDcd;
/// FCR bits 7 and 6.
constexpr std::array<std::size_t, 4> kTriggerLevels = {1, 4, 8, 14};
constexpr std::size_t kLargestBatch = 4096;

}  // namespace

Serial16550::Serial16550(std::string name, SerialBackend* backend, const time::VmClock& clock, time::TimerQueue& timers)
    : name_(std::move(name)), backend_(backend), clock_(clock), batch_timer_(timers, [this](auto) { flush(); }) {
  reset(bus::ResetKind::Cold);
}

Serial16550::~Serial16550() {
  flush();
}

void Serial16550::reset(bus::ResetKind) {
  hand_over();
  receiver_.clear();
  ier_ = 0;
  fcr_ = 0;
  lcr_ = 0;
  mcr_ = 0;
  lsr_errors_ = 0;
  msr_ = kConnected;
  scr_ = 0;
  dll_ = 0;
  dlm_ = 0;
  thr_empty_interrupt_ = false;
  update_irq();
}

void Serial16550::describe(state::Visitor& v) {
  hand_over();
  v.field(1, "receiver", receiver_);
  v.field(2, "ier", ier_);
  v.field(3, "fcr", fcr_);
  v.field(4, "lcr", lcr_);
  v.field(5, "mcr", mcr_);
  v.field(6, "lsr_errors", lsr_errors_);
  v.field(7, "msr", msr_);
  v.field(8, "scr", scr_);
  v.field(9, "dll", dll_);
  v.field(10, "dlm", dlm_);
  v.field(11, "thr_empty_interrupt", thr_empty_interrupt_);
  v.on_loaded([this] {
    update_irq();
    offer_space();
  });
}

bool Serial16550::fifo_enabled() const {
  return (fcr_ & kFcrEnable) != 0;
}
bool Serial16550::dlab() const {
  return (lcr_ & kLcrDlab) != 0;
}
bool Serial16550::loopback() const {
  return (mcr_ & kMcrLoop) != 0;
}
bool Serial16550::listening() const {
  if (loopback()) return false;
  if ((mcr_ & kMcrDtr) != 0) return (mcr_ & kMcrRts) != 0;
  return fifo_enabled() && (ier_ & kIerReceive) != 0;
}

// --- Interrupts ---------------------------------------------------------------------------------------------------

std::uint8_t Serial16550::interrupt_identification() const {
  if ((ier_ & kIerLine) != 0 && lsr_errors_ != 0) return kIirLine;
  if ((ier_ & kIerReceive) != 0 && !receiver_.empty()) {
    const std::size_t trigger = fifo_enabled() ? kTriggerLevels[fcr_ >> 6] : 1;
    return receiver_.size() >= trigger ? kIirReceive : kIirTimeout;
  }
  if ((ier_ & kIerTransmit) != 0 && thr_empty_interrupt_) return kIirTransmit;
  constexpr std::uint8_t kDeltas = kMsrDeltaCts | kMsrDeltaDsr | kMsrTrailingRi | kMsrDeltaDcd;
  if ((ier_ & kIerModem) != 0 && (msr_ & kDeltas) != 0) return kIirModem;
  return kIirNone;
}

void Serial16550::update_irq() {
  // In loopback the OUT2 pin is inactive whatever the MCR says (data sheet, 8.6.7).
  const bool gate = (mcr_ & (kMcrOut2 | kMcrLoop)) == kMcrOut2;
  irq_.set(gate && interrupt_identification() != kIirNone);
}

// --- Receiver -----------------------------------------------------------------------------------------------------

void Serial16550::show_errors_of_first() {
  if (receiver_.empty()) return;
  // An error belongs to its character and shows when that is the next to be read (data sheet, 8.6.3).
  lsr_errors_ |= static_cast<std::uint8_t>(receiver_[0] >> 8);
  receiver_[0] &= 0xFF;
}

void Serial16550::push_received(Received character) {
  if (receiver_.size() >= receive_capacity()) {
    lsr_errors_ |= kLsrOverrun;
    // Without FIFOs the new character overwrites the old; with them it is lost in the shift register.
    if (fifo_enabled()) return;
    receiver_.clear();
  }
  receiver_.push(character);
  show_errors_of_first();
}

std::size_t Serial16550::receive(std::span<const std::uint8_t> bytes) {
  const std::lock_guard guard(lock());
  if (!listening()) return 0;
  std::size_t taken = 0;
  while (taken < bytes.size() && receiver_.size() < receive_capacity()) push_received(bytes[taken++]);
  if (taken != 0) update_irq();
  return taken;
}

bool Serial16550::receive_break() {
  const std::lock_guard guard(lock());
  if (!listening() || receiver_.size() >= receive_capacity()) return false;
  push_received(kLsrBreak << 8);
  update_irq();
  return true;
}

void Serial16550::offer_space() {
  if (backend_ != nullptr && receiver_.empty() && listening()) backend_->receive_space_available();
}

void Serial16550::clear_receiver() {
  receiver_.clear();
}

std::uint8_t Serial16550::read_rbr() {
  const auto value = static_cast<std::uint8_t>(receiver_.pop());
  show_errors_of_first();
  update_irq();
  offer_space();
  return value;
}

// --- Transmitter --------------------------------------------------------------------------------------------------

void Serial16550::write_thr(std::uint8_t value) {
  // The interrupt goes and comes back at once: edge-sensitive controllers must see both.
  thr_empty_interrupt_ = false;
  update_irq();
  if (loopback()) {
    push_received(value);
  } else if (backend_ != nullptr) {
    if (sent_.empty()) batch_timer_.arm(clock_.now() + kBatchTime);
    sent_.push_back(value);
    if (sent_.size() >= kLargestBatch) hand_over();
  }
  thr_empty_interrupt_ = true;
  update_irq();
}

void Serial16550::hand_over() {
  if (sent_.empty()) return;
  batch_timer_.disarm();
  backend_->transmit(sent_);
  sent_.clear();
}

void Serial16550::flush() {
  const std::lock_guard guard(lock());
  hand_over();
}

// --- Registers ----------------------------------------------------------------------------------------------------

void Serial16550::write_ier(std::uint8_t value) {
  const bool transmit_enabled = (~ier_ & value & kIerTransmit) != 0;
  ier_ = value & kIerWritable;
  // Enabling it with an empty THR interrupts at once (data sheet, 8.6.5; Linux probes for UARTs that do not).
  if (transmit_enabled) thr_empty_interrupt_ = true;
  update_irq();
  offer_space();
}

void Serial16550::write_fcr(std::uint8_t value) {
  const bool switched = ((fcr_ ^ value) & kFcrEnable) != 0;
  if (switched || ((value & kFcrEnable) != 0 && (value & kFcrResetReceiver) != 0)) clear_receiver();
  // The other bits count only while the enable bit is written with them (data sheet, 8.6.4).
  fcr_ = (value & kFcrEnable) != 0 ? value & kFcrSticky : 0;
  update_irq();
  offer_space();
}

void Serial16550::set_modem_inputs(std::uint8_t inputs) {
  const std::uint8_t changed = msr_ ^ inputs;
  std::uint8_t deltas = msr_ & 0x0F;
  if ((changed & kMsrCts) != 0) deltas |= kMsrDeltaCts;
  if ((changed & kMsrDsr) != 0) deltas |= kMsrDeltaDsr;
  if ((changed & kMsrDcd) != 0) deltas |= kMsrDeltaDcd;
  if ((msr_ & ~inputs & kMsrRi) != 0) deltas |= kMsrTrailingRi;
  msr_ = static_cast<std::uint8_t>(inputs | deltas);
}

void Serial16550::write_mcr(std::uint8_t value) {
  mcr_ = value & kMcrWritable;
  std::uint8_t inputs = kConnected;
  if (loopback()) {
    inputs = 0;
    if ((mcr_ & kMcrRts) != 0) inputs |= kMsrCts;
    if ((mcr_ & kMcrDtr) != 0) inputs |= kMsrDsr;
    if ((mcr_ & kMcrOut1) != 0) inputs |= kMsrRi;
    if ((mcr_ & kMcrOut2) != 0) inputs |= kMsrDcd;
  }
  set_modem_inputs(inputs);
  update_irq();
  offer_space();
}

std::uint8_t Serial16550::read_iir() {
  const std::uint8_t iir = interrupt_identification();
  if (iir == kIirTransmit) {
    thr_empty_interrupt_ = false;
    update_irq();
  }
  return fifo_enabled() ? iir | kIirFifos : iir;
}

std::uint8_t Serial16550::read_lsr() {
  std::uint8_t value = kLsrThrEmpty | kLsrEmpty | lsr_errors_;
  if (!receiver_.empty()) value |= kLsrDataReady;
  if (fifo_enabled()) {
    bool error_in_fifo = (lsr_errors_ & ~kLsrOverrun) != 0;
    for (std::size_t i = 0; i < receiver_.size(); ++i) error_in_fifo |= receiver_[i] > 0xFF;
    if (error_in_fifo) value |= kLsrFifoError;
  }
  lsr_errors_ = 0;
  update_irq();
  return value;
}

std::uint8_t Serial16550::read_msr() {
  const std::uint8_t value = msr_;
  msr_ &= 0xF0;
  update_irq();
  return value;
}

std::uint8_t Serial16550::read_byte(std::uint64_t offset) {
  switch (offset) {
    case kRbrThr:
      return dlab() ? dll_ : read_rbr();
    case kIer:
      return dlab() ? dlm_ : ier_;
    case kIirFcr:
      return read_iir();
    case kLcr:
      return lcr_;
    case kMcr:
      return mcr_;
    case kLsr:
      return read_lsr();
    case kMsr:
      return read_msr();
    case kScr:
      return scr_;
    default:
      return 0xFF;
  }
}

void Serial16550::write_byte(std::uint64_t offset, std::uint8_t value) {
  switch (offset) {
    case kRbrThr:
      dlab() ? void(dll_ = value) : write_thr(value);
      break;
    case kIer:
      dlab() ? void(dlm_ = value) : write_ier(value);
      break;
    case kIirFcr:
      write_fcr(value);
      break;
    case kLcr:
      lcr_ = value;
      break;
    case kMcr:
      write_mcr(value);
      break;
    case kScr:
      scr_ = value;
      break;
    default:  // LSR and MSR are read-only
      break;
  }
}

}  // namespace doppel::devices
