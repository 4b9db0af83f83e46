#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "boot/platform_layout.h"
#include "bus/device.h"
#include "bus/io_bus.h"
#include "bus/pci_bus.h"
#include "devices/acpi_pm.h"
#include "devices/cmos_rtc.h"
#include "devices/debug_ports.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/interrupt_controllers.h"
#include "devices/isa_dma.h"
#include "devices/pci_host.h"
#include "devices/pit8254.h"
#include "devices/port92.h"
#include "devices/pvpanic.h"
#include "devices/reset_control.h"
#include "devices/vm_gen_id.h"
#include "irq/apic_bus.h"
#include "irq/gsi_router.h"
#include "machine/config.h"
#include "machine/identity.h"
#include "machine/legacy_timer_route.h"
#include "machine/pci_devices.h"
#include "machine/serial_port.h"
#include "memory/guest_memory.h"
#include "time/timer_queue.h"
#include "time/vm_clock.h"

namespace doppel::machine {

/// The board: memory, clock, buses, interrupt controllers and devices of a PC, wired by boot/platform_layout.h. Knows
/// no processor but their local APICs, which are created here because the APIC bus joins them.
class Platform {
 public:
  /// What devices tell the machine; called in vCPU threads with a device's lock held, so they only post.
  struct Events {
    std::function<void()> power_off;
    std::function<void()> reset;
    std::function<void(int status)> debug_exit;
    std::function<void()> panic;                          ///< by pvpanic
    std::function<void(std::uint8_t byte)> debug_output;  ///< ports E9h and 402h
  };

  /// `cpu_timers` are the queues of the local APICs, one a processor.
  static Result<std::unique_ptr<Platform>> create(const MachineConfig& config, const Identity& identity,
                                                  const std::vector<time::TimerQueue*>& cpu_timers,
                                                  time::VmClock& clock, time::TimerQueue& timers, Events events);
  Platform(const Platform&) = delete;
  Platform& operator=(const Platform&) = delete;

  memory::GuestMemory& memory() { return *memory_; }
  bus::IoBus& ports() { return ports_; }
  bus::IoBus& mmio() { return mmio_; }
  irq::LocalApic& local_apic(unsigned index) { return local_apics_[index]->chip(); }
  irq::IrqLine irq_line(unsigned gsi) { return {gsi_router_, gsi}; }
  SerialPort& serial(unsigned port) { return *serial_[port]; }
  const PciDevices& pci_devices() const { return pci_devices_; }
  devices::AcpiPm& acpi_pm() { return acpi_pm_; }
  devices::VmGenId& vm_gen_id() { return vm_gen_id_; }
  devices::I8042& keyboard() { return i8042_; }
  /// UTC at VM time 0, in nanoseconds since the epoch.
  const std::int64_t& wall_clock_base() const { return wall_clock_base_; }

  /// All devices, for reset, state and inspection; processors stopped.
  const std::vector<bus::Device*>& devices() const { return devices_; }
  void reset(bus::ResetKind kind);
  /// What firmware does between power-up and the kernel: gives PCI devices their addresses.
  void assign_pci_resources();
  /// Before processors stop and after they go on: devices leave guest memory alone in between.
  void pause_devices();
  void resume_devices();
  /// Hands over what devices still hold back (serial output).
  void flush();

 private:
  Platform(std::unique_ptr<memory::GuestMemory> memory, const Identity& identity,
           const std::vector<time::TimerQueue*>& cpu_timers, time::VmClock& clock, time::TimerQueue& timers,
           Events events);
  Result<void> map_devices();
  void connect_interrupts();
  Result<void> add_pci_devices(const MachineConfig& config);

  std::unique_ptr<memory::GuestMemory> memory_;
  const std::int64_t wall_clock_base_;
  bus::IoBus ports_, mmio_;
  const Events events_;
  irq::ApicBus apic_bus_;
  std::vector<std::unique_ptr<devices::LocalApicDevice>> local_apics_;
  devices::PicDevice pic_;
  devices::IoApicDevice io_apic_;
  irq::GsiRouter gsi_router_;
  LegacyTimerRoute irq0_route_, irq8_route_;
  devices::Pit8254 pit_;
  devices::CmosRtc rtc_;
  devices::Hpet hpet_;
  devices::AcpiPm acpi_pm_;
  devices::I8042 i8042_;
  devices::Port92 port92_;
  devices::ResetControl reset_control_;
  bus::PciBus pci_bus_;
  bus::PciBus::Window pci_memory_{pci_bus_, boot::layout::kPciWindowStart, false};
  bus::PciBus::Window pci_high_memory_;
  bus::PciBus::Window pci_io_{pci_bus_, boot::layout::kPciIoStart, true};
  bus::PciBus::Ecam pci_ecam_{pci_bus_};
  devices::PciHostBridge pci_host_bridge_;
  devices::PciHost pci_host_{pci_bus_, reset_control_};
  devices::IsaDma isa_dma_;
  devices::VmGenId vm_gen_id_;
  devices::DebugConsole debug_console_;
  devices::DebugExit debug_exit_;
  devices::PvPanic pv_panic_;
  std::array<std::unique_ptr<SerialPort>, 4> serial_;
  PciDevices pci_devices_;
  std::mutex debug_lock_;  ///< of the debug ports, which have none of their own
  std::vector<bus::Device*> devices_;
};

}  // namespace doppel::machine
