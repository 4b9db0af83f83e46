#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "bus/device.h"
#include "devices/byte_registers.h"

namespace doppel::devices {

/// The two 8237A DMA controllers as far as a machine without ISA DMA devices shows them: page registers hold what is
/// written, 80h among them, where firmware shows its POST codes; the controllers report no request and every channel
/// masked, and take commands without effect.
class IsaDma : public bus::Device {
 public:
  std::string_view name() const override { return "isa_dma"; }
  void reset(bus::ResetKind) override { pages_.fill(0); }
  void describe(state::Visitor& v) override { v.field(1, "pages", std::as_writable_bytes(std::span(pages_))); }

  bus::IoHandler& page_ports() { return page_ports_; }  ///< 80h, 16 ports
  bus::IoHandler& master_ports() { return master_; }    ///< 00h, 16 ports
  bus::IoHandler& slave_ports() { return slave_; }      ///< C0h, 32 ports

 private:
  std::uint8_t read_page(std::uint64_t offset) { return pages_[offset & 0xF]; }
  void write_page(std::uint64_t offset, std::uint8_t value) { pages_[offset & 0xF] = value; }
  std::uint8_t read_master(std::uint64_t offset) { return offset == kAllMasks ? 0x0F : 0; }
  std::uint8_t read_slave(std::uint64_t offset) { return offset == 2 * kAllMasks ? 0x0F : 0; }
  void ignore(std::uint64_t, std::uint8_t) {}

  static constexpr std::uint64_t kAllMasks = 0xF;

  std::array<std::uint8_t, 16> pages_{};
  MemberRegisters<IsaDma> page_ports_{*this, &IsaDma::read_page, &IsaDma::write_page};
  MemberRegisters<IsaDma> master_{*this, &IsaDma::read_master, &IsaDma::ignore};
  MemberRegisters<IsaDma> slave_{*this, &IsaDma::read_slave, &IsaDma::ignore};
};

}  // namespace doppel::devices
