#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "irq/apic_bus.h"
#include "irq/apic_timer.h"
#include "irq/line.h"
#include "irq/message.h"
#include "irq/vector_set.h"
#include "state/visitor.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::irq {

/// IA32_APIC_BASE (SDM vol. 3, 11.4.4).
struct ApicBase {
  static constexpr std::uint64_t kBsp = 1 << 8;
  static constexpr std::uint64_t kExtd = 1 << 10;
  static constexpr std::uint64_t kEnable = 1 << 11;
  static constexpr std::uint64_t kAddressMask = 0x000F'FFFF'FFFF'F000;
  static constexpr std::uint64_t kDefaultAddress = 0xFEE0'0000;
};

/// What a local APIC passes on to its processor.
enum class ApicSignal : std::uint8_t {
  Interrupt,  ///< pending() has become true
  Nmi,
  Init,
  StartUp,  ///< with the SIPI's vector
};

/// The local APIC of one vCPU: xAPIC registers, x2APIC MSRs, timer (SDM vol. 3, chapter 11). An IrqSink for its pins:
/// 0 is LINT0, 1 is LINT1.
///
/// Threads: registers, MSRs, pending(), acknowledge(), CR8 and reset belong to the vCPU's thread. accept(), set_input()
/// and the timer come from any thread and take no lock: they set bits in atomic words, then call `on_signal` in that
/// thread. Nothing here is called back with a lock held, so a local APIC comes last in every lock order.
class LocalApic : public IrqSink {
 public:
  static constexpr unsigned kLint0 = 0;
  static constexpr unsigned kLint1 = 1;
  static constexpr std::uint64_t kPageSize = 0x1000;
  static constexpr std::uint32_t kMsrTscDeadline = 0x6E0;
  static constexpr std::uint32_t kMsrApicBase = 0x1B;
  static constexpr std::uint32_t kMsrX2ApicFirst = 0x800;
  static constexpr std::uint32_t kMsrX2ApicLast = 0x8FF;

  struct Config {
    std::uint32_t apic_id = 0;  ///< initial APIC ID; below 255
    bool bootstrap = false;     ///< the BSP flag after reset
    unsigned physical_address_bits = 46;
  };
  using SignalFunction = std::function<void(ApicSignal signal, std::uint8_t vector)>;

  /// Attaches itself to `bus`. Everything referenced outlives the local APIC.
  LocalApic(const Config& config, ApicBus& bus, const time::VmClock& clock, time::TimerQueue& timers);

  /// Set while the machine is built: how the processor hears of signals, in any thread.
  void set_on_signal(SignalFunction on_signal) { on_signal_ = std::move(on_signal); }
  /// Set while the machine is built: the INTA cycle that fetches an ExtINT's vector (Pic::acknowledge).
  void set_ext_int_acknowledge(std::function<std::uint8_t()> acknowledge) {
    ext_int_acknowledge_ = std::move(acknowledge);
  }

  /// Power-up or RESET#.
  void reset();
  /// INIT: as reset, but IA32_APIC_BASE and the APIC ID stay (SDM vol. 3, 11.4.7.3).
  void init();
  /// As firmware leaves the BSP's: enabled, LINT0 is ExtINT, LINT1 is NMI (MP specification, virtual wire mode).
  void enter_virtual_wire_mode();
  void describe(state::Visitor& v);

  // --- The processor's side -------------------------------------------------------------------------------------
  /// A maskable interrupt waits whose priority beats the processor's; an ExtINT beats all.
  bool pending() const;
  /// Takes it. The spurious vector when nothing is left to take.
  std::uint8_t acknowledge();
  std::uint8_t cr8() const { return static_cast<std::uint8_t>(task_priority() >> 4); }
  void set_cr8(std::uint8_t value);

  /// Does the xAPIC page lie at this physical address, so that an access of `size` bytes belongs here?
  bool maps(std::uint64_t address) const {
    const std::uint64_t base = apic_base_.load(std::memory_order_relaxed);
    return (base & (ApicBase::kEnable | ApicBase::kExtd)) == ApicBase::kEnable &&
           ((address ^ base) & ApicBase::kAddressMask) == 0;
  }
  /// The xAPIC page, `offset` below kPageSize. Bytes 4–15 of each register read as 0; only aligned 32-bit writes count.
  std::uint32_t read(std::uint64_t offset, unsigned size);
  void write(std::uint64_t offset, unsigned size, std::uint32_t value);

  /// IA32_APIC_BASE, IA32_TSC_DEADLINE and 800h–8FFh. False: the access is a #GP.
  bool read_msr(std::uint32_t msr, std::uint64_t& value);
  bool write_msr(std::uint32_t msr, std::uint64_t value);

  /// Guest TSC − VmClock nanoseconds, after every write that moves the TSC.
  void set_tsc_offset(std::int64_t offset) { timer_.set_tsc_offset(offset); }

  std::uint32_t initial_apic_id() const { return config_.apic_id; }
  std::uint64_t apic_base() const { return apic_base_.load(std::memory_order_relaxed); }

  // --- The bus's side: any thread --------------------------------------------------------------------------------
  void set_input(unsigned pin, bool high) override;
  /// Takes a message whatever its destination says. Ignored while IA32_APIC_BASE disables the APIC.
  void accept(const Message& message);
  bool is_addressed_by(const Message& message) const;
  /// IA32_APIC_BASE and the spurious vector register both enable it.
  bool software_enabled() const;
  unsigned task_priority() const { return tpr_.load(std::memory_order_relaxed); }

 private:
  /// Register numbers: MMIO offset / 16 = MSR − 800h (SDM vol. 3, tables 11-1 and 11-6).
  enum Register : unsigned {
    kId = 0x02,
    kVersion = 0x03,
    kTpr = 0x08,
    kApr = 0x09,
    kPpr = 0x0A,
    kEoi = 0x0B,
    kRrd = 0x0C,
    kLdr = 0x0D,
    kDfr = 0x0E,
    kSvr = 0x0F,
    kIsr = 0x10,
    kTmr = 0x18,
    kIrr = 0x20,
    kEsr = 0x28,
    kIcrLow = 0x30,
    kIcrHigh = 0x31,
    kLvtTimer = 0x32,
    kLvtThermal = 0x33,
    kLvtPerf = 0x34,
    kLvtLint0 = 0x35,
    kLvtLint1 = 0x36,
    kLvtError = 0x37,
    kInitialCount = 0x38,
    kCurrentCount = 0x39,
    kDivideConfiguration = 0x3E,
    kSelfIpi = 0x3F,
  };
  static constexpr unsigned kLvtCount = 6;

  // ESR bits.
  static constexpr std::uint32_t kSendIllegalVector = 1 << 5;
  static constexpr std::uint32_t kReceiveIllegalVector = 1 << 6;
  static constexpr std::uint32_t kIllegalRegisterAddress = 1 << 7;

  bool x2apic() const { return (apic_base() & ApicBase::kExtd) != 0; }
  bool globally_enabled() const { return (apic_base() & ApicBase::kEnable) != 0; }
  std::uint32_t lvt(Register entry) const { return lvt_[entry - kLvtTimer].load(std::memory_order_acquire); }
  std::uint32_t version() const;
  std::uint32_t x2apic_ldr() const;
  unsigned processor_priority() const;

  std::optional<std::uint32_t> read_register(unsigned number);
  /// False when there is no such register to write.
  bool write_register(unsigned number, std::uint32_t value);
  bool write_x2apic(unsigned number, std::uint64_t value);
  bool write_apic_base(std::uint64_t value);
  void write_svr(std::uint32_t value);
  void write_lvt(Register entry, std::uint32_t value);
  void configure_timer();
  void reset_registers();

  void end_of_interrupt();
  void send_ipi(std::uint32_t icr_low, std::uint32_t destination);
  void accept_fixed(std::uint8_t vector, TriggerMode trigger_mode);
  /// An interrupt source of the local vector table fires.
  void deliver_local(Register entry);
  void deliver_level_lint(Register entry);
  int deliverable_vector() const;
  bool ext_int_pending() const;
  void raise_error(std::uint32_t error);
  void signal(ApicSignal signal, std::uint8_t vector = 0) const;
  void signal_if_pending() const;

  const Config config_;
  ApicBus& bus_;
  SignalFunction on_signal_;
  std::function<std::uint8_t()> ext_int_acknowledge_;

  // Read by other threads when they route and deliver.
  std::atomic<std::uint64_t> apic_base_;
  std::atomic<std::uint32_t> id_;
  std::atomic<std::uint32_t> ldr_ = 0;
  std::atomic<std::uint32_t> dfr_ = 0xFFFF'FFFF;
  std::atomic<std::uint32_t> svr_ = 0xFF;
  std::atomic<std::uint32_t> tpr_ = 0;
  std::array<std::atomic<std::uint32_t>, kLvtCount> lvt_{};
  // Written by other threads.
  VectorSet irr_;
  VectorSet tmr_;
  std::array<std::atomic<bool>, 2> lint_{};    ///< levels of the pins
  std::atomic<bool> ext_int_message_ = false;  ///< an ExtINT came as a message and waits
  std::atomic<std::uint32_t> errors_ = 0;      ///< since the last write to the ESR
  // The vCPU's thread only.
  VectorSet isr_;
  std::uint32_t esr_ = 0;
  std::uint32_t icr_low_ = 0;
  std::uint32_t icr_high_ = 0;

  ApicTimer timer_;
};

}  // namespace doppel::irq
