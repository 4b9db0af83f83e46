#pragma once

#include <atomic>
#include <cstdint>

namespace doppel::x86 {

/// What waits for a vCPU between two instructions. One word that any thread sets and that the vCPU's engine tests once
/// per block; a clear word promises that nothing has changed since the engine last looked.
class Attention {
 public:
  enum Bit : std::uint32_t {
    kInterrupt = 1 << 0,  ///< look at CpuIo::interrupt_pending() again
    kNmi = 1 << 1,        ///< an NMI has arrived
    kInit = 1 << 2,       ///< INIT has arrived
    kSipi = 1 << 3,       ///< a start-up IPI has arrived, vector in sipi_vector()
    kStop = 1 << 4,       ///< leave run(): pause, debugger, timer work, power-off
    kFlush = 1 << 5,      ///< drop all cached translations, from another thread
    kEngine = 1 << 6,     ///< the engine's own business: another of its processors wants something
    kResumed = 1 << 7,    ///< the machine was paused: tell the guest's kvmclock, whose watchdogs want to know
  };

  void set(std::uint32_t bits) {
    word_.fetch_or(bits, std::memory_order_seq_cst);
    if (doorbell_ != nullptr) doorbell_->store(0, std::memory_order_seq_cst);
    if (Kicker* kicker = kicker_.load(std::memory_order_seq_cst); kicker != nullptr) kicker->kick();
  }
  void clear(std::uint32_t bits) { word_.fetch_and(~bits, std::memory_order_acq_rel); }
  /// Clears the bits and returns those that were set.
  std::uint32_t take(std::uint32_t bits) { return word_.fetch_and(~bits, std::memory_order_acq_rel) & bits; }
  std::uint32_t pending() const { return word_.load(std::memory_order_acquire); }
  bool any() const { return word_.load(std::memory_order_relaxed) != 0; }

  void post_sipi(std::uint8_t vector) {
    sipi_vector_.store(vector, std::memory_order_relaxed);
    set(kSipi);
  }
  std::uint8_t sipi_vector() const { return sipi_vector_.load(std::memory_order_relaxed); }

  /// A word that is set to 0 whenever a bit is set: an engine's, whose code notices by it without a test. Before the
  /// vCPU runs; it outlives all threads that call set(), or is taken back (null) before.
  void set_doorbell(std::atomic<std::uint64_t>* word) { doorbell_ = word; }

  /// Whoever runs the vCPU's code where it does not look at the doorbell, and has to be told. By any thread.
  class Kicker {
   public:
    virtual ~Kicker() = default;
    virtual void kick() = 0;
  };
  /// While that is so; the vCPU's thread, which looks at any() after that. It outlives all threads that call set().
  void set_kicker(Kicker* kicker) { kicker_.store(kicker, std::memory_order_seq_cst); }

 private:
  std::atomic<std::uint64_t>* doorbell_ = nullptr;
  std::atomic<Kicker*> kicker_{nullptr};
  std::atomic<std::uint32_t> word_{0};
  std::atomic<std::uint8_t> sipi_vector_{0};
};

}  // namespace doppel::x86
