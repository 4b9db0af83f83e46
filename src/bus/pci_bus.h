#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "bus/io_bus.h"
#include "bus/pci_function.h"

namespace doppel::bus {

/// PCI bus 0: finds the function that an access is for. Configuration accesses go by slot, memory and I/O accesses by
/// what the BARs decode at the moment; interrupt pins are collected onto shared, level-triggered lines.
///
/// Functions are attached while the machine is built and outlive the bus. Everything else may be called by any thread.
/// No lock is taken on the way to a function, so that a doorbell costs a scan of a few words; a BAR that is moved while
/// another processor writes to it is hit at its old or its new address, as on a real bus.
class PciBus : public PciUpstream {
 public:
  static constexpr unsigned kSlots = 32;
  /// Slot s reaches line s mod kLines (the machine's _PRT says the same).
  static constexpr unsigned kLines = 8;

  struct Lines {
    std::function<void(std::uint64_t address, std::uint32_t data)> message;
    std::function<void(unsigned line, bool high)> intx;
  };
  explicit PciBus(Lines lines) : lines_(std::move(lines)) {}

  /// In function 0 of `slot`, below kSlots and free.
  void attach(PciFunction& function, unsigned slot);

  /// `address` as in ECAM: bus << 20 | device << 15 | function << 12 | register. Absent functions read as all ones.
  std::uint32_t config_read(std::uint32_t address, unsigned size);
  void config_write(std::uint32_t address, unsigned size, std::uint32_t value);

  /// Where things are, as firmware would have decided: every BAR gets an address from its window, lowest slot first,
  /// every INTx pin the number of its interrupt line.
  struct Windows {
    std::uint64_t memory_start, memory_end;
    std::uint64_t io_start, io_end;
    std::uint8_t first_gsi;
  };
  void assign_resources(const Windows& windows);

  /// Answers for a window of addresses, by BAR.
  class Window : public IoHandler {
   public:
    /// `base` is where the window begins.
    Window(PciBus& bus, std::uint64_t base, bool is_io) : bus_(bus), base_(base), is_io_(is_io) {}
    std::uint64_t read(std::uint64_t offset, unsigned size) override;
    void write(std::uint64_t offset, unsigned size, std::uint64_t value) override;

   private:
    PciBus& bus_;
    const std::uint64_t base_;
    const bool is_io_;
  };
  /// Extended configuration access (PCI Express base specification, 7.2.2).
  class Ecam : public IoHandler {
   public:
    explicit Ecam(PciBus& bus) : bus_(bus) {}
    std::uint64_t read(std::uint64_t offset, unsigned size) override;
    void write(std::uint64_t offset, unsigned size, std::uint64_t value) override;

   private:
    PciBus& bus_;
  };

  void send_message(std::uint64_t address, std::uint32_t data) override { lines_.message(address, data); }
  void set_intx(unsigned slot, bool asserted) override;

 private:
  struct Region {
    PciFunction* function;
    unsigned bar;
    bool is_io;
    std::uint64_t size;
  };
  const Region* find(std::uint64_t address, unsigned size, bool is_io, std::uint64_t& offset) const;
  PciFunction* function_at(std::uint32_t address) const;

  const Lines lines_;
  std::array<PciFunction*, kSlots> slots_{};
  std::vector<Region> regions_;
  std::mutex intx_mutex_;                         ///< after a device's lock, before the interrupt controllers'
  std::array<std::uint32_t, kLines> asserted_{};  ///< the slots that drive each line
};

}  // namespace doppel::bus
