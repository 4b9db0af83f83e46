#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ring.h"
#include "bus/device.h"
#include "devices/byte_registers.h"
#include "irq/line.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::devices {

/// The host's end of a serial line.
class SerialBackend {
 public:
  virtual ~SerialBackend() = default;
  /// Characters the guest has sent, in order, a batch at a time. Called with the UART's lock held, by a vCPU's thread
  /// or a timer's; should not block.
  virtual void transmit(std::span<const std::uint8_t> bytes) = 0;
  /// The UART can take characters again: call receive() soon, from another thread or after returning. Called with the
  /// UART's lock held.
  virtual void receive_space_available() = 0;
};

/// A 16550A UART with the wiring of a PC's COM port (National PC16550D data sheet): OUT2 gates the interrupt.
///
/// There is no bit rate: a character takes no time, so the transmitter is always empty and the four character times of
/// a receive timeout have always passed. What the guest sends is collected for a moment (kBatchTime) and handed over in
/// batches.
class Serial16550 : public bus::Device, public ByteRegisters {
 public:
  static constexpr std::size_t kFifoSize = 16;
  static constexpr time::Nanoseconds kBatchTime = 1'000'000;

  /// `backend` may be null: nobody at the other end. All references outlive the device.
  Serial16550(std::string name, SerialBackend* backend, const time::VmClock& clock, time::TimerQueue& timers);
  ~Serial16550() override;

  void connect_irq(irq::IrqLine irq) { irq_ = irq; }

  std::string_view name() const override { return name_; }
  void reset(bus::ResetKind kind) override;
  void describe(state::Visitor& v) override;

  // --- The host's side; takes lock(). Any thread.
  /// Puts characters into the receiver; returns how many it took. It takes none while the guest does not listen, so
  /// that a guest which opens the port late, or has no room just now, loses nothing: with DTR but without RTS, or
  /// without either and before the receive interrupt and the FIFO are enabled.
  std::size_t receive(std::span<const std::uint8_t> bytes);
  /// A break condition; false when it finds no room.
  bool receive_break();
  /// Hands over what the guest has sent so far. On pause and at the end; describe() and the destructor do it as well.
  void flush();

 protected:
  std::uint8_t read_byte(std::uint64_t offset) override;
  void write_byte(std::uint64_t offset, std::uint8_t value) override;

 private:
  /// A received character in bits 7–0, with its LSR error bits in 15–8.
  using Received = std::uint16_t;

  bool fifo_enabled() const;
  std::size_t receive_capacity() const { return fifo_enabled() ? kFifoSize : 1; }
  bool listening() const;
  bool dlab() const;
  bool loopback() const;

  std::uint8_t interrupt_identification() const;
  void update_irq();
  void push_received(Received character);
  void show_errors_of_first();
  std::uint8_t read_rbr();
  void write_thr(std::uint8_t value);
  void write_ier(std::uint8_t value);
  void write_fcr(std::uint8_t value);
  void write_mcr(std::uint8_t value);
  std::uint8_t read_iir();
  std::uint8_t read_lsr();
  std::uint8_t read_msr();
  /// Modem status inputs change to these (MSR bits 7–4); sets the deltas.
  void set_modem_inputs(std::uint8_t inputs);
  void clear_receiver();
  void hand_over();
  void offer_space();

  std::string name_;
  SerialBackend* backend_;
  const time::VmClock& clock_;
  irq::IrqLine irq_;

  Ring<Received, kFifoSize> receiver_;
  std::uint8_t ier_ = 0;
  std::uint8_t fcr_ = 0;
  std::uint8_t lcr_ = 0;
  std::uint8_t mcr_ = 0;
  std::uint8_t lsr_errors_ = 0;  ///< OE, PE, FE, BI until the LSR is read
  std::uint8_t msr_ = 0;
  std::uint8_t scr_ = 0;
  std::uint8_t dll_ = 0;
  std::uint8_t dlm_ = 0;
  bool thr_empty_interrupt_ = false;  ///< pending until the IIR shows it or the THR is written

  std::vector<std::uint8_t> sent_;  ///< on its way to the backend; not state, describe() hands it over
  time::Timer batch_timer_;
};

}  // namespace doppel::devices
