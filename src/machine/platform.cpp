#include "machine/platform.h"

#include <bit>
#include <ctime>
#include <initializer_list>
#include <utility>

#include "boot/platform_layout.h"
#include "irq/msi.h"

namespace doppel::machine {
namespace {

namespace layout = boot::layout;

std::int64_t utc_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * time::kSecond + now.tv_nsec;
}

devices::CmosRtc::Config rtc_config(std::int64_t utc_base, const memory::GuestMemory& memory) {
  devices::CmosRtc::Config config;
  config.utc_base = utc_base;
  for (const memory::RamRegion& region : memory.regions()) {
    (region.start == 0 ? config.ram_below_4g : config.ram_above_4g) += region.size;
  }
  return config;
}

}  // namespace

Result<std::unique_ptr<Platform>> Platform::create(const MachineConfig& config, const Identity& identity,
                                                   const std::vector<time::TimerQueue*>& cpu_timers,
                                                   time::VmClock& clock, time::TimerQueue& timers, Events events) {
  using memory::GuestMemory;
  const bool translates = config.engine == EngineKind::Auto || config.engine == EngineKind::Translator;
  const bool direct = translates && config.translator.direct != engine::DirectExecution::Never;
  const GuestMemory::Backing backing = direct ? GuestMemory::Backing::Shareable : GuestMemory::Backing::Private;
  Result<std::unique_ptr<GuestMemory>> memory = GuestMemory::create(config.memory_bytes, backing);
  if (!memory) return memory.error();
  std::unique_ptr<Platform> platform(
      new Platform(*std::move(memory), identity, cpu_timers, clock, timers, std::move(events)));
  if (Result<void> mapped = platform->map_devices(); !mapped) return mapped.error();
  if (Result<void> added = platform->add_pci_devices(config); !added) return added.error();
  platform->connect_interrupts();
  return platform;
}

Platform::Platform(std::unique_ptr<memory::GuestMemory> memory, const Identity& identity,
                   const std::vector<time::TimerQueue*>& cpu_timers, time::VmClock& clock, time::TimerQueue& timers,
                   Events events)
    : memory_(std::move(memory)),
      wall_clock_base_(utc_now() - clock.now()),
      events_(std::move(events)),
      io_apic_(apic_bus_),
      gsi_router_(pic_.chip(), io_apic_.chip()),
      irq0_route_(irq_line(layout::kTimerIrq)),
      irq8_route_(irq_line(layout::kRtcIrq)),
      pit_(clock, timers),
      rtc_(rtc_config(wall_clock_base_, *memory_), clock, timers),
      hpet_(clock, timers, io_apic_.chip()),
      acpi_pm_({.sleep_type_s5 = layout::kSleepTypeS5}, clock, timers),
      pci_bus_({.message =
                    [this](std::uint64_t address, std::uint32_t data) {
                      if (const auto message = irq::decode_msi(address, data)) apic_bus_.deliver(*message);
                    },
                .intx = [this](unsigned line, bool high) { irq_line(layout::kFirstPciGsi + line).set(high); }}),
      pci_high_memory_(pci_bus_, layout::pci_high_window(memory_->end()), false),
      vm_gen_id_(*memory_, layout::kVmGenId, std::bit_cast<devices::VmGenId::Guid>(identity.vm_generation_id)),
      debug_console_([this](std::uint8_t byte) { events_.debug_output(byte); }),
      debug_exit_([this](std::uint32_t status) { events_.debug_exit(static_cast<int>(status)); }),
      pv_panic_([this] { events_.panic(); }) {
  for (unsigned i = 0; i < cpu_timers.size(); ++i) {
    const irq::LocalApic::Config config{.apic_id = i, .bootstrap = i == 0};
    local_apics_.push_back(std::make_unique<devices::LocalApicDevice>(config, apic_bus_, clock, *cpu_timers[i]));
    local_apics_.back()->chip().set_ext_int_acknowledge([this] { return pic_.chip().acknowledge(); });
    devices_.push_back(local_apics_.back().get());
  }
  apic_bus_.attach(io_apic_.chip());
  for (unsigned i = 0; i < serial_.size(); ++i) {
    serial_[i] = std::make_unique<SerialPort>("com" + std::to_string(i + 1), clock, timers);
    devices_.push_back(&serial_[i]->uart());
  }
  for (bus::Device* device :
       std::initializer_list<bus::Device*>{&pic_, &io_apic_, &pit_, &rtc_, &hpet_, &acpi_pm_, &i8042_, &port92_,
                                           &reset_control_, &pci_host_bridge_, &pci_host_, &isa_dma_, &vm_gen_id_})
    devices_.push_back(device);
}

Result<void> Platform::map_devices() {
  struct Mapping {
    bus::IoBus& bus;
    std::uint64_t base, length;
    bus::IoHandler& handler;
    std::mutex* lock;  ///< null: the chip locks itself
    const char* name;
  };
  const Mapping mappings[] = {
      {ports_, layout::kPic1, 2, pic_.master_ports(), nullptr, "pic1"},
      {ports_, layout::kPic2, 2, pic_.slave_ports(), nullptr, "pic2"},
      {ports_, layout::kElcr, 2, pic_.elcr_ports(), nullptr, "elcr"},
      {ports_, layout::kPit, 4, pit_.ports(), &pit_.lock(), "pit"},
      {ports_, layout::kPort61, 1, pit_.port61(), &pit_.lock(), "port61"},
      {ports_, layout::kRtcIndex, 2, rtc_, &rtc_.lock(), "rtc"},
      {ports_, layout::kPm1aEvent, layout::kPm1aEventBytes + layout::kPm1aControlBytes, acpi_pm_.pm1_registers(),
       &acpi_pm_.lock(), "acpi_pm1"},
      {ports_, layout::kPmTimer, layout::kPmTimerBytes, acpi_pm_.timer_register(), &acpi_pm_.lock(), "acpi_pm_timer"},
      {ports_, layout::kGpe0, layout::kGpe0Bytes, acpi_pm_.gpe0_registers(), &acpi_pm_.lock(), "acpi_gpe0"},
      {ports_, layout::kKeyboardData, 1, i8042_.data_port(), &i8042_.lock(), "i8042_data"},
      {ports_, layout::kKeyboardCommand, 1, i8042_.command_port(), &i8042_.lock(), "i8042_command"},
      {ports_, layout::kPort92, 1, port92_, &port92_.lock(), "port92"},
      {ports_, layout::kPciAddress, 4, pci_host_.address_ports(), &pci_host_.lock(), "pci_address"},
      {ports_, layout::kPciData, 4, pci_host_.data_ports(), nullptr, "pci_data"},
      {ports_, layout::kPciIoStart, layout::kPciIoEnd - layout::kPciIoStart, pci_io_, nullptr, "pci_io"},
      {ports_, layout::kDmaPages, 16, isa_dma_.page_ports(), &isa_dma_.lock(), "dma_pages"},
      {ports_, layout::kDma1, 16, isa_dma_.master_ports(), &isa_dma_.lock(), "dma1"},
      {ports_, layout::kDma2, 32, isa_dma_.slave_ports(), &isa_dma_.lock(), "dma2"},
      {ports_, layout::kDebugConsole, 1, debug_console_, &debug_lock_, "debug_console"},
      {ports_, layout::kFirmwareDebugConsole, 1, debug_console_, &debug_lock_, "firmware_debug_console"},
      {ports_, layout::kDebugExit, 4, debug_exit_, &debug_lock_, "debug_exit"},
      {ports_, layout::kPvPanic, 1, pv_panic_, &debug_lock_, "pvpanic"},
      {mmio_, layout::kPciWindowStart, layout::kPciWindowEnd - layout::kPciWindowStart, pci_memory_, nullptr,
       "pci_memory"},
      {mmio_, layout::kPciEcamBase, layout::kPciEcamBytes, pci_ecam_, nullptr, "pci_ecam"},
      {mmio_, layout::pci_high_window(memory_->end()), layout::kPciHighWindowBytes, pci_high_memory_, nullptr,
       "pci_high_memory"},
      {mmio_, layout::kHpetBase, layout::kHpetBytes, hpet_, &hpet_.lock(), "hpet"},
      {mmio_, layout::kIoApicBase, irq::IoApic::kPageSize, io_apic_, nullptr, "ioapic"},
  };
  for (const Mapping& mapping : mappings) {
    if (Result<void> mapped =
            mapping.bus.map(mapping.base, mapping.length, mapping.handler, mapping.lock, mapping.name);
        !mapped) {
      return mapped;
    }
  }
  for (unsigned i = 0; i < serial_.size(); ++i) {
    devices::Serial16550& uart = serial_[i]->uart();
    if (Result<void> mapped = ports_.map(layout::kSerial[i].base, 8, uart, &uart.lock(), std::string(uart.name()));
        !mapped)
      return mapped;
  }
  return {};
}

void Platform::connect_interrupts() {
  // Virtual wire mode (MP specification, 3.6.2.2): the PICs reach the boot processor through its LINT0.
  pic_.chip().connect_intr(irq::IrqLine(local_apics_[0]->chip(), irq::LocalApic::kLint0));
  pit_.connect_irq({irq0_route_, LegacyTimerRoute::kOldTimer});
  rtc_.connect_irq({irq8_route_, LegacyTimerRoute::kOldTimer});
  hpet_.connect_legacy({irq0_route_, LegacyTimerRoute::kHpet}, {irq8_route_, LegacyTimerRoute::kHpet});
  hpet_.set_on_legacy_route([this](bool hpet) {
    const auto input = hpet ? LegacyTimerRoute::kHpet : LegacyTimerRoute::kOldTimer;
    irq0_route_.select(input);
    irq8_route_.select(input);
  });
  acpi_pm_.connect_sci(irq_line(layout::kSciIrq));
  acpi_pm_.set_on_power_off(events_.power_off);
  i8042_.connect_irq(irq_line(layout::kKeyboardIrq));
  i8042_.set_on_reset(events_.reset);
  port92_.set_on_reset(events_.reset);
  reset_control_.set_on_reset(events_.reset);
  vm_gen_id_.set_on_changed([this] { acpi_pm_.raise_gpe(layout::kVmGenIdGpe); });
  for (unsigned i = 0; i < serial_.size(); ++i) serial_[i]->uart().connect_irq(irq_line(layout::kSerial[i].irq));
}

Result<void> Platform::add_pci_devices(const MachineConfig& config) {
  pci_bus_.attach(pci_host_bridge_, 0);
  if (Result<void> made = pci_devices_.create(config, *memory_); !made) return made;
  unsigned slot = 1;
  for (const auto& device : pci_devices_.all()) {
    if (slot == bus::PciBus::kSlots) return Error{"a machine has room for 31 devices on its PCI bus: ask for fewer"};
    pci_bus_.attach(*device, slot++);
    devices_.push_back(device.get());
  }
  return {};
}

void Platform::assign_pci_resources() {
  pci_bus_.assign_resources({.memory_start = layout::kPciWindowStart,
                             .memory_end = layout::kPciWindowEnd,
                             .io_start = layout::kPciIoStart,
                             .io_end = layout::kPciIoEnd,
                             .first_gsi = layout::kFirstPciGsi});
}

void Platform::pause_devices() {
  for (const auto& device : pci_devices_.all()) device->pause();
}

void Platform::resume_devices() {
  for (const auto& device : pci_devices_.all()) device->resume();
}

void Platform::reset(bus::ResetKind kind) {
  for (bus::Device* device : devices_) device->reset(kind);
  for (const auto& port : serial_) port->drop_input();
  if (pci_devices_.console() != nullptr) pci_devices_.console()->drop_input();
}

void Platform::flush() {
  for (const auto& port : serial_) port->uart().flush();
}

}  // namespace doppel::machine
