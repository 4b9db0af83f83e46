#include "cli/run_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/fd.h"
#include "boot/embedded_guest.h"
#include "boot/kernel.h"
#include "cli/command_protocol.h"
#include "cli/run_disk.h"
#include "cli/run_network.h"
#include "cli/run_share.h"
#include "cli/seed.h"
#include "cli/units.h"
#include "control/registry.h"

namespace doppel::cli {
namespace {

using machine::BootFile;
using machine::MachineConfig;

constexpr const char* kVirtioConsole = "virtio";
constexpr std::uint64_t kMemoryStep = std::uint64_t{1} << 20;
/// Debian's kernel alone takes 48M; with less than this the built-in guest panics before its shell.
constexpr std::uint64_t kEmbeddedGuestMemory = std::uint64_t{80} << 20;

struct EngineName {
  const char* name;
  machine::EngineKind kind;
};
constexpr std::array<EngineName, 4> kEngines{{{"auto", machine::EngineKind::Auto},
                                              {"dbt", machine::EngineKind::Translator},
                                              {"interp", machine::EngineKind::Interpreter},
                                              {"lockstep", machine::EngineKind::Lockstep}}};

std::uint64_t host_memory() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Result<BootFile> read_boot_file(const std::string& path) {
  Result<std::vector<std::byte>> bytes = read_file(path);
  if (!bytes) return bytes.error();
  if (bytes->empty()) return Error{path + " is empty"};
  return BootFile{path, *std::move(bytes), {}};
}

/// "FILE ARGUMENTS…", as boot loaders write Multiboot modules.
Result<BootFile> read_module(const std::string& text) {
  const std::size_t space = text.find(' ');
  Result<BootFile> file = read_boot_file(text.substr(0, space));
  if (file && space != std::string::npos) file->arguments = text.substr(space + 1);
  return file;
}

BootFile embedded_file(const char* name, std::span<const std::byte> bytes) {
  return {name, {bytes.begin(), bytes.end()}, {}};
}

Result<void> add_kernel(const RunOptions& options, MachineConfig& config) {
  if (options.kernel.empty()) {
    const boot::EmbeddedGuest guest = boot::embedded_guest();
    if (!guest.present()) {
      return Error{"this doppel was built without its default guest: name a kernel, as in doppel run ./bzImage"};
    }
    config.kernel = embedded_file("(embedded kernel)", guest.kernel);
    return {};
  }
  Result<BootFile> kernel = read_boot_file(options.kernel);
  if (!kernel) return kernel.error();
  if (const auto kind = boot::identify_kernel(kernel->bytes); !kind) {
    const std::string& reason = kind.error().message;
    return Error{reason.find(options.kernel) == std::string::npos ? options.kernel + ": " + reason : reason};
  }
  config.kernel = *std::move(kernel);
  return {};
}

/// Cuts initrds short of nothing: archives may follow one another on multiples of four bytes.
void pad(std::vector<std::byte>& bytes) {
  bytes.resize((bytes.size() + 3) / 4 * 4);
}

Result<void> add_initrds(const RunOptions& options, MachineConfig& config) {
  for (const std::string& path : options.initrds) {
    Result<BootFile> initrd = read_boot_file(path);
    if (!initrd) return initrd.error();
    config.initrds.push_back(*std::move(initrd));
  }
  const bool wants_embedded = options.kernel.empty() || options.command.has_value();
  if (config.initrds.empty() && wants_embedded) {
    const boot::EmbeddedGuest guest = boot::embedded_guest();
    if (!guest.present()) return Error{"-c needs the default guest, which this doppel was built without"};
    config.initrds.push_back(embedded_file("(embedded initramfs)", guest.initramfs));
  }
  if (options.command) {
    pad(config.initrds.back().bytes);
    config.initrds.push_back({"(command)", make_command_archive(*options.command), {}});
  }
  return {};
}

/// A value for the kernel's command line: what is not plain would end it or start another.
bool is_plain(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '+';
  });
}

Result<machine::EngineKind> parse_engine(const std::string& text) {
  const auto* const found = std::ranges::find(kEngines, text, &EngineName::name);
  if (found != kEngines.end()) return found->kind;
  std::string names;
  for (const EngineName& engine : kEngines) names += fmt::format("{}{}", names.empty() ? "" : ", ", engine.name);
  return Error{fmt::format("--engine {}: there are {}", text, names)};
}

Result<std::size_t> parse_code_cache(const std::string& text) {
  using Options = engine::TranslatorOptions;
  const Result<std::uint64_t> size = parse_size(text);
  if (!size) return Error{"--code-cache: " + size.error().message};
  if (*size < Options::kLeastCode || *size > Options::kMostCode) {
    return Error{fmt::format("--code-cache {}: a processor's code takes {} to {}", text,
                             format_size(Options::kLeastCode), format_size(Options::kMostCode))};
  }
  return *size;
}

std::string make_command_line(const RunOptions& options, const TerminalFacts& terminal) {
  // Until hvc0 has a driver, the kernel says on the serial port why it dies.
  const std::string consoles = options.console == kVirtioConsole ? "console=ttyS0 console=hvc0" : "console=ttyS0";
  if (!options.kernel.empty() && !options.command) return options.append.value_or(consoles);
  std::string line = consoles + " quiet";
  if (!options.command) {
    if (terminal.size) line += " doppel.size=" + *terminal.size;
    line += " TERM=" + (terminal.type && is_plain(*terminal.type) ? *terminal.type : "dumb");
  }
  if (options.append) line += " " + *options.append;
  return line;
}

}  // namespace

Result<std::uint64_t> parse_memory(const std::string& text, bool embedded_guest) {
  const Result<std::uint64_t> size = parse_size(text);
  if (!size) return Error{"--memory: " + size.error().message};
  if (*size < machine::kMinMemory) {
    return Error{fmt::format("--memory {}: a machine needs at least {}", text, format_size(machine::kMinMemory))};
  }
  if (embedded_guest && *size < kEmbeddedGuestMemory) {
    return Error{
        fmt::format("--memory {}: the built-in guest needs at least {}", text, format_size(kEmbeddedGuestMemory))};
  }
  if (*size > host_memory()) {
    return Error{fmt::format("--memory {}: this host has {}; use less", text, format_size(host_memory()))};
  }
  return *size / kMemoryStep * kMemoryStep;
}

Result<unsigned> parse_cpus(const std::string& text) {
  unsigned cpus = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpus);
  if (error == std::errc{} && end == text.data() + text.size() && cpus >= 1 && cpus <= machine::kMaxCpus) return cpus;
  return Error{fmt::format("--cpus {}: a machine has 1 to {} processors", text, machine::kMaxCpus)};
}

Result<void> set_engine(const RunOptions& options, MachineConfig& config) {
  const Result<machine::EngineKind> engine = parse_engine(options.engine);
  if (!engine) return engine.error();
  config.engine = *engine;
  if (config.engine == machine::EngineKind::Lockstep && config.cpus != 1)
    return Error{fmt::format("--engine lockstep checks machines of one processor, not {}: use --cpus 1 or no lockstep",
                             config.cpus)};
  if (options.lockstep_every == 0) return Error{"--lockstep-every 0: 1 compares all blocks, N one in N"};
  config.lockstep = {options.lockstep_from, options.lockstep_every};
  config.translator.perf_map = options.perf_map;
  const bool translates =
      config.engine == machine::EngineKind::Auto || config.engine == machine::EngineKind::Translator;
  if (options.perf_map && !translates) return Error{"--perf-map: only the engine dbt has code to be named"};
  using engine::DirectExecution;
  config.translator.direct = options.direct == "never"    ? DirectExecution::Never
                             : options.direct == "always" ? DirectExecution::Always
                                                          : DirectExecution::Auto;
  if (options.code_cache.empty()) return {};
  if (config.engine == machine::EngineKind::Interpreter) return Error{"--code-cache: the interpreter keeps no code"};
  const Result<std::size_t> code = parse_code_cache(options.code_cache);
  if (!code) return code.error();
  config.translator.code_bytes = *code;
  return {};
}

bool runs_embedded_shell(const RunOptions& options) {
  return options.kernel.empty() && options.initrds.empty() && !options.command;
}

Result<MachineConfig> make_config(const RunOptions& options, const TerminalFacts& terminal) {
  MachineConfig config;
  const auto memory = parse_memory(options.memory, options.kernel.empty());
  if (!memory) return memory.error();
  const auto cpus = parse_cpus(options.cpus);
  if (!cpus) return cpus.error();
  if (!options.name.empty()) {
    if (const auto good = control::check_vm_name(options.name); !good) return Error{"--name: " + good.error().message};
  }
  if (options.command && options.command->find('\0') != std::string::npos) {
    return Error{"-c: the command contains a NUL character"};
  }
  config.name = options.name;
  config.memory_bytes = *memory;
  config.cpus = *cpus;
  if (Result<void> engine = set_engine(options, config); !engine) return engine.error();
  config.balloon = options.balloon;
  if (options.console != "serial" && options.console != kVirtioConsole) {
    return Error{fmt::format("--console {}: use serial or virtio", options.console)};
  }
  config.virtio_console = options.console == kVirtioConsole;
  if (config.virtio_console && options.command) {
    return Error{"-c needs no console: leave --console out"};
  }
  // A command runs once.
  config.no_reboot = options.no_reboot || options.command.has_value();
  config.command_line = make_command_line(options, terminal);

  for (const std::string& text : options.disks) {
    Result<machine::DiskConfig> disk = parse_disk(text);
    if (!disk) return disk.error();
    config.disks.push_back(*std::move(disk));
  }
  Result<std::optional<machine::DiskConfig>> seed = make_seed(options);
  if (!seed) return seed.error();
  if (*seed) config.disks.push_back(**std::move(seed));
  Result<std::vector<machine::NetworkConfig>> networks = parse_networks(options.nets, options.macs);
  if (!networks) return networks.error();
  config.networks = *std::move(networks);
  for (const std::string& text : options.shares) {
    Result<machine::ShareConfig> share = parse_share(text, static_cast<unsigned>(config.shares.size()));
    if (!share) return share.error();
    config.command_line += share_argument(*share);
    config.shares.push_back(*std::move(share));
  }
  if (auto added = add_kernel(options, config); !added) return added.error();
  if (auto added = add_initrds(options, config); !added) return added.error();
  for (const std::string& text : options.modules) {
    Result<BootFile> module = read_module(text);
    if (!module) return module.error();
    config.modules.push_back(*std::move(module));
  }
  return config;
}

}  // namespace doppel::cli
