#include "machine/machine.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/log.h"
#include "machine/debug_log.h"
#include "machine/guest_loader.h"
#include "machine/machine_state.h"
#include "machine/panic_watch.h"
#include "machine/platform.h"
#include "machine/requests.h"
#include "machine/run_gate.h"
#include "machine/vcpu.h"
#include "machine/vcpu_io.h"
#include "state/snapshot_io.h"
#include "x86/cpuid_model.h"

namespace doppel::machine {
namespace {

Result<std::unique_ptr<engine::Engine>> make_engine(const MachineConfig& config) {
  switch (config.engine) {
    case EngineKind::Translator:
      return engine::make_translator(config.translator);
    case EngineKind::Lockstep:
      return engine::make_lockstep(config.lockstep, config.translator);
    case EngineKind::Interpreter:
      return engine::make_interpreter();
    case EngineKind::Auto:
      break;
  }
  Result<std::unique_ptr<engine::Engine>> translator = engine::make_translator(config.translator);
  if (translator || config.translator.perf_map) return translator;
  log::info("machine", "{}; the interpreter takes its place", translator.error().message);
  return engine::make_interpreter();
}

void apply(const irq::ApicSignal signal, std::uint8_t vector, Vcpu& vcpu) {
  switch (signal) {
    case irq::ApicSignal::Interrupt:
      return vcpu.notify(x86::Attention::kInterrupt);
    case irq::ApicSignal::Nmi:
      return vcpu.notify(x86::Attention::kNmi);
    case irq::ApicSignal::Init:
      return vcpu.notify(x86::Attention::kInit);
    case irq::ApicSignal::StartUp:
      return vcpu.notify_sipi(vector);
  }
}

}  // namespace

/// One processor with what connects it to the board.
struct Processor {
  Processor(unsigned index, RunGate& gate, const time::VmClock& clock, time::TimerQueue* common_timers,
            Vcpu::ExitHandler on_exit)
      : vcpu(index, gate, clock, common_timers, std::move(on_exit)) {}

  Vcpu vcpu;
  std::unique_ptr<VcpuIo> io;
};

class Machine::Impl {
 public:
  explicit Impl(MachineConfig machine_config)
      : config(std::move(machine_config)),
        cpuid(x86::CpuidModel::for_host(config.cpus)),
        gate(config.cpus, [this] { kick(); }),
        serial_watch([this](std::string reason) { panicked(std::move(reason)); }),
        console_watch([this](std::string reason) { panicked(std::move(reason)); }) {}

  ~Impl() {
    gate.end();
    for (const auto& processor : processors) processor->vcpu.join();
    engine.reset();
  }

  Result<void> build();
  Result<Outcome> run();
  Result<void> load();
  Result<void> load_clock();
  Result<void> load_saved();
  SavedState save();
  void pause();
  void resume();
  void on_exit(unsigned index, const engine::Exit& exit);
  void kick();
  void panicked(std::string reason) { requests.post(Outcome{Outcome::Kind::Panic, 0, std::move(reason)}); }
  std::string describe_position(unsigned index);
  /// Calls `use` with the host's end of a port; not, where the machine lacks it.
  template <class Use>
  void with_port(unsigned port, const Use& use);

  MachineConfig config;  ///< as it was asked for, but for boot files that are read late
  const Identity identity = Identity::random();
  const x86::CpuidModel cpuid;
  time::VmClock clock;
  time::TimerQueue timers;
  RunGate gate;
  Requests requests;
  std::unique_ptr<engine::Engine> engine;
  std::vector<std::unique_ptr<Processor>> processors;
  std::unique_ptr<Platform> platform;
  PanicWatch serial_watch, console_watch;  ///< of COM1, and the virtio console
  DebugLog debug_log;
  std::mutex listener_mutex;
  std::function<void(unsigned, const engine::Exit&)> debug_listener;
  std::atomic<State> life{State::Created};
  std::chrono::steady_clock::time_point stopped_since;  ///< while the gate is closed
};

Result<void> Machine::Impl::build() {
  Result<std::unique_ptr<engine::Engine>> made_engine = make_engine(config);
  if (!made_engine) return made_engine.error();
  engine = std::move(*made_engine);
  std::vector<time::TimerQueue*> cpu_timers;
  for (unsigned i = 0; i < config.cpus; ++i) {
    processors.push_back(
        std::make_unique<Processor>(i, gate, clock, i == 0 ? &timers : nullptr,
                                    [this](unsigned index, const engine::Exit& exit) { on_exit(index, exit); }));
    cpu_timers.push_back(&processors[i]->vcpu.timers());
  }
  timers.set_on_earlier([this](time::Nanoseconds deadline) { processors[0]->vcpu.deadline_moved(deadline); });

  Platform::Events events{
      .power_off =
          [this] {
            requests.post(Outcome{Outcome::Kind::PowerOff, 0, {}});
          },
      .reset = [this] { requests.post(Requests::Reset{}); },
      .debug_exit =
          [this](int status) {
            requests.post(Outcome{Outcome::Kind::DebugExit, status, {}});
          },
      .panic = [this] { panicked((config.virtio_console ? console_watch : serial_watch).reason()); },
      .debug_output = [this](std::uint8_t byte) { debug_log.put(byte); },
  };
  Result<std::unique_ptr<Platform>> made =
      Platform::create(config, identity, cpu_timers, clock, timers, std::move(events));
  if (!made) return made.error();
  platform = std::move(made).value();

  for (unsigned i = 0; i < config.cpus; ++i) {
    Processor& processor = *processors[i];
    irq::LocalApic& apic = platform->local_apic(i);
    apic.set_on_signal(
        [&processor](irq::ApicSignal signal, std::uint8_t vector) { apply(signal, vector, processor.vcpu); });
    processor.io = std::make_unique<VcpuIo>(apic, platform->ports(), platform->mmio(), platform->wall_clock_base(),
                                            platform->irq_line(13));
    const x86::CpuPorts ports{platform->memory(), *processor.io, clock, cpuid, processor.vcpu.attention()};
    if (Result<void> started = processor.vcpu.start(engine->create_vcpu(ports)); !started) return started.error();
  }
  return {};
}

/// Before the platform is built, for devices look at the clock then.
Result<void> Machine::Impl::load_clock() {
  if (config.saved == nullptr) return {};
  return state::load(config.saved->state.clock, [this](state::Visitor& v) { clock.describe(v); });
}

Result<void> Machine::Impl::load_saved() {
  for (const SavedMachine::RamPiece& piece : config.saved->ram) {
    Result<void> mapped = platform->memory().map_contents(piece.file->get(), piece.offset, piece.page, piece.bytes);
    if (!mapped) return mapped;
  }
  std::vector<ProcessorState> states(config.cpus);
  if (Result<void> loaded = load_components(config.saved->state.components, states, platform->devices()); !loaded) {
    return loaded;
  }
  for (unsigned i = 0; i < config.cpus; ++i) {
    x86::Attention& attention = processors[i]->vcpu.attention();
    attention.clear(ProcessorState::kSignals);
    if ((states[i].attention & x86::Attention::kSipi) != 0) attention.post_sipi(states[i].sipi_vector);
    attention.set(states[i].attention | x86::Attention::kInterrupt);
    processors[i]->vcpu.runner().load(states[i].cpu);
  }
  platform->memory().dirty().collect_bits();
  // The guest is another machine now, and shall know (random numbers, mostly).
  platform->vm_gen_id().change(std::bit_cast<devices::VmGenId::Guid>(identity.vm_generation_id));
  return {};
}

SavedState Machine::Impl::save() {
  std::vector<ProcessorState> states(config.cpus);
  for (unsigned i = 0; i < config.cpus; ++i) {
    Vcpu& vcpu = processors[i]->vcpu;
    vcpu.runner().store(states[i].cpu);
    states[i].attention = vcpu.attention().pending() & ProcessorState::kSignals;
    states[i].sipi_vector = vcpu.attention().sipi_vector();
  }
  return {state::save([this](state::Visitor& v) { clock.describe(v); }), save_components(states, platform->devices())};
}

Result<void> Machine::Impl::load() {
  if (config.saved != nullptr && config.saved->load_boot_files) {
    if (Result<void> read = config.saved->load_boot_files(config); !read) return read;
  }
  const Result<x86::CpuState> boot_processor = load_guest(platform->memory(), config, identity);
  if (!boot_processor) return boot_processor.error();
  for (unsigned i = 0; i < config.cpus; ++i) {
    processors[i]->vcpu.attention().clear(~0U);
    processors[i]->vcpu.runner().load(i == 0 ? *boot_processor : application_processor_state());
  }
  platform->local_apic(0).enter_virtual_wire_mode();
  platform->assign_pci_resources();
  return {};
}

void Machine::Impl::kick() {
  for (const auto& processor : processors) processor->vcpu.notify(x86::Attention::kStop);
}

void Machine::Impl::pause() {
  const auto began = std::chrono::steady_clock::now();
  if (!gate.close()) return;
  stopped_since = began;
  clock.pause();
  platform->pause_devices();
}

void Machine::Impl::resume() {
  gate.open([this] {
    clock.resume();
    for (const auto& processor : processors) processor->vcpu.attention().set(x86::Attention::kResumed);
    platform->resume_devices();
  });
}

std::string Machine::Impl::describe_position(unsigned index) {
  x86::CpuState state;
  processors[index]->vcpu.runner().store(state);
  return fmt::format("processor {} at CS:RIP {:04x}:{:016x}, RSP {:016x}, CR2 {:016x}, CR3 {:016x}", index,
                     state.seg(x86::SegReg::Cs).selector, state.rip, state.gpr[x86::kRsp], state.cr2, state.cr3);
}

void Machine::Impl::on_exit(unsigned index, const engine::Exit& exit) {
  if (exit.reason == engine::ExitReason::Shutdown) {
    requests.post(Outcome{Outcome::Kind::TripleFault, 0, describe_position(index)});
  } else if (exit.reason == engine::ExitReason::Diverged) {
    requests.post(Outcome{Outcome::Kind::Diverged, 0, describe_position(index)});
  } else {
    requests.post(Requests::DebugStop{index, exit});
  }
}

Result<Outcome> Machine::Impl::run() {
  life = State::Running;
  resume();
  for (;;) {
    const Requests::Request request = requests.wait();
    pause();
    platform->flush();
    if (const Outcome* outcome = std::get_if<Outcome>(&request)) {
      life = State::Ended;
      return *outcome;
    }
    if (const auto* stop = std::get_if<Requests::DebugStop>(&request)) {
      const std::scoped_lock lock(listener_mutex);
      if (debug_listener) {
        debug_listener(stop->vcpu, stop->exit);
        continue;  // the listener resumes
      }
    } else if (const auto* task = std::get_if<Requests::Task>(&request)) {
      (*task)();
    } else {
      if (config.no_reboot) {
        life = State::Ended;
        return Outcome{Outcome::Kind::Reset, 0, {}};
      }
      log::info("machine", "reset");
      platform->reset(bus::ResetKind::Warm);
      requests.clear();  // what was asked before came from the machine that is no more
      if (Result<void> loaded = load(); !loaded) return loaded.error();
    }
    resume();
  }
}

template <class Use>
void Machine::Impl::with_port(unsigned port, const Use& use) {
  if (port != kVirtioConsole) return use(platform->serial(port));
  if (platform->pci_devices().console() != nullptr) use(*platform->pci_devices().console());
}

Machine::Machine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Machine::~Machine() = default;

Result<std::unique_ptr<Machine>> Machine::create(MachineConfig config) {
  if (Result<void> valid = check(config); !valid) return valid.error();
  for (NetworkConfig& network : config.networks) {
    if (!network.mac) network.mac = random_mac();
  }
  auto impl = std::make_unique<Impl>(std::move(config));
  if (Result<void> loaded = impl->load_clock(); !loaded) return loaded.error();
  if (Result<void> built = impl->build(); !built) return Error{built.error().message, /*of_host=*/true};
  const bool from_saved = impl->config.saved != nullptr;
  if (Result<void> loaded = from_saved ? impl->load_saved() : impl->load(); !loaded) return loaded.error();
  return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

Result<Outcome> Machine::run() {
  return impl_->run();
}
Machine::State Machine::state() const {
  const State life = impl_->life;
  return life == State::Running && impl_->gate.closed() ? State::Paused : life;
}
void Machine::pause() {
  impl_->pause();
}
void Machine::resume() {
  impl_->resume();
}
void Machine::reset() {
  impl_->requests.post(Requests::Reset{});
}
void Machine::stop() {
  impl_->requests.post(Outcome{Outcome::Kind::Stopped, 0, {}});
}
bool Machine::set_balloon(std::uint64_t bytes) {
  devices::virtio::Balloon* const balloon = impl_->platform->pci_devices().balloon();
  if (balloon != nullptr) balloon->set_target(static_cast<std::uint32_t>(bytes >> memory::kPageShift));
  return balloon != nullptr;
}
void Machine::press_power_button() {
  impl_->platform->acpi_pm().press_power_button();
}
void Machine::send_ctrl_alt_del() {
  impl_->platform->keyboard().send_ctrl_alt_del();
}

void Machine::set_serial_output(unsigned port, std::function<void(std::span<const std::byte>)> sink) {
  // Linux writes its last words to its consoles.
  if (port == 0 || port == kVirtioConsole) {
    PanicWatch& watch = port == 0 ? impl_->serial_watch : impl_->console_watch;
    sink = [&watch, inner = std::move(sink)](std::span<const std::byte> bytes) {
      if (inner) inner(bytes);
      watch.feed(bytes);
    };
  }
  impl_->with_port(port, [&](auto& end) { end.set_sink(std::move(sink)); });
}
std::size_t Machine::send_serial_input(unsigned port, std::span<const std::byte> bytes) {
  std::size_t taken = 0;
  impl_->with_port(port, [&](auto& end) { taken = end.send(bytes); });
  return taken;
}
void Machine::send_serial_break(unsigned port) {
  if (port != kVirtioConsole) impl_->platform->serial(port).uart().receive_break();
}
void Machine::set_serial_input_space(unsigned port, std::function<void()> on_input_space) {
  impl_->with_port(port, [&](auto& end) { end.set_on_space(std::move(on_input_space)); });
}
bool Machine::set_console_size(std::uint16_t columns, std::uint16_t rows) {
  devices::virtio::Console* const console = impl_->platform->pci_devices().console();
  if (console != nullptr) console->set_size(columns, rows);
  return console != nullptr;
}

void Machine::while_stopped(std::function<void()> work) {
  impl_->requests.post(std::move(work));
}
std::chrono::steady_clock::time_point Machine::stopped_since() const {
  return impl_->stopped_since;
}
SavedState Machine::save() {
  return impl_->save();
}
void Machine::forget_write_rights() {
  for (const auto& processor : impl_->processors) processor->vcpu.runner().flush_translations();
}
memory::GuestMemory& Machine::memory() {
  return impl_->platform->memory();
}

const std::vector<storage::Disk*>& Machine::disks() const {
  return impl_->platform->pci_devices().disks();
}

const MachineConfig& Machine::config() const {
  return impl_->config;
}
std::string_view Machine::engine_name() const {
  return impl_->engine->name();
}

nlohmann::json Machine::inspect() {
  impl_->pause();
  nlohmann::json result = nlohmann::json::object();
  for (unsigned i = 0; i < impl_->config.cpus; ++i) {
    x86::CpuState state = cpu_state(i);
    result[fmt::format("cpu{}", i)] = state::inspect([&state](state::Visitor& v) { state.describe(v); });
  }
  for (bus::Device* device : impl_->platform->devices()) {
    result[std::string(device->name())] = state::inspect([device](state::Visitor& v) { device->describe(v); });
  }
  impl_->resume();
  return result;
}

nlohmann::json Machine::describe_code(unsigned vcpu, std::uint64_t linear) {
  impl_->pause();
  nlohmann::json lists = impl_->processors[vcpu]->vcpu.runner().describe_code(linear);
  impl_->resume();
  return lists;
}

void Machine::set_counting(bool counting) {
  impl_->pause();
  for (const auto& processor : impl_->processors) processor->vcpu.runner().set_counting(counting);
  impl_->resume();
}

nlohmann::json Machine::stats() {
  nlohmann::json result = nlohmann::json::object();
  for (unsigned i = 0; i < impl_->config.cpus; ++i) {
    result[fmt::format("cpu{}", i)] = impl_->processors[i]->vcpu.runner().stats();
  }
  if (devices::virtio::Balloon* const balloon = impl_->platform->pci_devices().balloon()) {
    const devices::virtio::BalloonStatistics statistics = balloon->statistics();
    constexpr std::array<const char*, devices::virtio::BalloonStatistics::kTags> kNames{
        "swap_in", "swap_out",  "major_faults", "minor_faults",        "free",
        "total",   "available", "disk_caches",  "hugetlb_allocations", "hugetlb_failures"};
    nlohmann::json& report = result["balloon"];
    report["pages"] = balloon->actual();
    report["reported_bytes"] = balloon->reported_bytes();
    for (std::size_t i = 0; i < kNames.size(); ++i) report["guest"][kNames[i]] = statistics.values[i];
  }
  return result;
}

void Machine::set_debug_listener(std::function<void(unsigned, const engine::Exit&)> listener) {
  const std::scoped_lock lock(impl_->listener_mutex);
  impl_->debug_listener = std::move(listener);
}
void Machine::set_debug_request(unsigned vcpu, const engine::DebugRequest& request) {
  impl_->processors[vcpu]->vcpu.runner().set_debug(request);
}
void Machine::hold(unsigned vcpu, bool held) {
  impl_->processors[vcpu]->vcpu.hold(held);
}
x86::CpuState Machine::cpu_state(unsigned vcpu) {
  x86::CpuState state;
  impl_->processors[vcpu]->vcpu.runner().store(state);
  return state;
}
void Machine::set_cpu_state(unsigned vcpu, const x86::CpuState& state) {
  impl_->processors[vcpu]->vcpu.runner().load(state);
}

namespace {

/// Calls `piece(physical, offset, length)` for each part of a linear range that lies in one page; false when one is not
/// mapped or fails.
template <class Piece>
bool for_each_page(engine::VcpuRunner& runner, std::uint64_t address, std::size_t size, const Piece& piece) {
  for (std::size_t done = 0; done < size;) {
    std::uint64_t physical = 0;
    if (!runner.translate(address + done, physical)) return false;
    const std::size_t length =
        std::min<std::size_t>(size - done, memory::kPageSize - (physical & (memory::kPageSize - 1)));
    if (!piece(physical, done, length)) return false;
    done += length;
  }
  return true;
}

}  // namespace

bool Machine::read_linear(unsigned vcpu, std::uint64_t address, std::span<std::byte> out) {
  return for_each_page(impl_->processors[vcpu]->vcpu.runner(), address, out.size(),
                       [&](std::uint64_t physical, std::size_t offset, std::size_t length) {
                         return impl_->platform->memory().read(physical, out.subspan(offset, length));
                       });
}
bool Machine::write_linear(unsigned vcpu, std::uint64_t address, std::span<const std::byte> bytes) {
  return for_each_page(impl_->processors[vcpu]->vcpu.runner(), address, bytes.size(),
                       [&](std::uint64_t physical, std::size_t offset, std::size_t length) {
                         return impl_->platform->memory().write(physical, bytes.subspan(offset, length));
                       });
}

}  // namespace doppel::machine
