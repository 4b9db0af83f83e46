#include "cli/from_snapshot.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "base/fd.h"
#include "base/system_error.h"
#include "boot/embedded_guest.h"
#include "cli/run_network.h"
#include "cli/run_share.h"
#include "cli/units.h"
#include "control/registry.h"
#include "snapshot/machine_manifest.h"
#include "snapshot/store.h"

namespace doppel::cli {
namespace {

using machine::BootFile;
using machine::MachineConfig;

/// A file that a reset of the guest will ask for, when no file can be opened any more.
struct LateFile {
  std::string path;
  std::shared_ptr<const UniqueFd> fd;  ///< null: it is not there
};

LateFile open_late(const std::string& path) {
  if (path.starts_with('(')) return {path, nullptr};
  Result<UniqueFd> fd = open_for_reading(path);
  return {path, fd ? std::make_shared<const UniqueFd>(*std::move(fd)) : nullptr};
}

Result<BootFile> read_late(const LateFile& file) {
  const boot::EmbeddedGuest guest = boot::embedded_guest();
  if (file.path == "(embedded kernel)" && guest.present()) {
    return BootFile{file.path, {guest.kernel.begin(), guest.kernel.end()}, {}};
  }
  if (file.path == "(embedded initramfs)" && guest.present()) {
    return BootFile{file.path, {guest.initramfs.begin(), guest.initramfs.end()}, {}};
  }
  struct stat status {};
  if (file.fd == nullptr || ::fstat(file.fd->get(), &status) != 0) {
    return Error{fmt::format("the guest reboots, and {} was not there when the machine was restored", file.path)};
  }
  BootFile result{file.path, std::vector<std::byte>(static_cast<std::size_t>(status.st_size)), {}};
  for (std::size_t done = 0; done < result.bytes.size();) {
    const ssize_t got =
        ::pread(file.fd->get(), &result.bytes[done], result.bytes.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return system_error("cannot read " + file.path);
    done += static_cast<std::size_t>(got);
  }
  return result;
}

std::function<Result<void>(MachineConfig&)> boot_file_loader(const snapshot::Manifest& manifest) {
  std::vector<LateFile> initrds;
  for (const std::string& path : manifest.initrds) initrds.push_back(open_late(path));
  return [kernel = open_late(manifest.kernel), initrds = std::move(initrds)](MachineConfig& config) -> Result<void> {
    Result<BootFile> read = read_late(kernel);
    if (!read) return read.error();
    config.kernel = *std::move(read);
    config.initrds.clear();
    for (const LateFile& file : initrds) {
      Result<BootFile> initrd = read_late(file);
      if (!initrd) return initrd.error();
      config.initrds.push_back(*std::move(initrd));
    }
    return {};
  };
}

/// What the machine's memory and devices were made of cannot be said anew.
Result<void> check_options(const RunOptions& options, const snapshot::Manifest& manifest) {
  const std::pair<bool, const char*> refused[] = {
      {!options.kernel.empty(), "KERNEL"},       {!options.initrds.empty(), "--initrd"},
      {!options.modules.empty(), "--module"},    {options.append.has_value(), "--append"},
      {!options.disks.empty(), "--disk"},        {options.balloon, "--balloon"},
      {options.console != "serial", "--console"}};
  for (const auto& [given, name] : refused) {
    if (given) return Error{fmt::format("{} goes with a machine that boots: leave it out with --from", name)};
  }
  if (options.memory_given) {
    const auto memory = parse_memory(options.memory, false);
    if (!memory) return memory.error();
    if (*memory != manifest.memory_bytes) {
      return Error{fmt::format("--memory {}: the machine of this snapshot has {}, which cannot change", options.memory,
                               format_size(manifest.memory_bytes))};
    }
  }
  if (options.cpus_given) {
    const auto cpus = parse_cpus(options.cpus);
    if (!cpus) return cpus.error();
    if (*cpus != manifest.cpus) {
      return Error{fmt::format("--cpus {}: the machine of this snapshot has {}, which cannot change", options.cpus,
                               manifest.cpus)};
    }
  }
  return {};
}

Result<void> connect_networks(const RunOptions& options, const snapshot::Manifest& manifest, MachineConfig& config) {
  const bool same_machine = options.name == manifest.machine;
  if (!options.nets.empty()) {
    Result<std::vector<machine::NetworkConfig>> given = parse_networks(options.nets, options.macs);
    if (!given) return given.error();
    if (given->size() != config.networks.size()) {
      return Error{fmt::format("--net: the machine of this snapshot has {} network card{}, not {}",
                               config.networks.size(), config.networks.size() == 1 ? "" : "s", given->size())};
    }
    for (std::size_t i = 0; i < given->size(); ++i) {
      machine::NetworkConfig& network = (*given)[i];
      if (!network.mac) network.mac = config.networks[i].mac;
      config.networks[i] = std::move(network);
    }
    return {};
  }
  for (machine::NetworkConfig& network : config.networks) {
    // One machine has a port of the host's: this one, if it is still that machine.
    if (!same_machine) {
      network.user.published.clear();
      network.mac.reset();
    }
    if (network.kind != machine::NetworkConfig::Kind::Tap) continue;
    Result<net::TapInterface> tap = net::TapInterface::open(network.interface);
    if (!tap) return tap.error();
    network.tap = std::make_shared<net::TapInterface>(*std::move(tap));
  }
  return {};
}

/// The guest has them mounted: they can be other directories of the host's, but not more or others of its own.
Result<void> connect_shares(const RunOptions& options, MachineConfig& config) {
  if (!options.shares.empty() && options.shares.size() != config.shares.size()) {
    return Error{fmt::format("--share: the machine of this snapshot has {}, not {}", config.shares.size(),
                             options.shares.size())};
  }
  for (std::size_t i = 0; i < options.shares.size(); ++i) {
    Result<machine::ShareConfig> given = parse_share(options.shares[i], static_cast<unsigned>(i));
    if (!given) return given.error();
    machine::ShareConfig& share = config.shares[i];
    if (given->guest_path != share.guest_path) {
      return Error{
          fmt::format("--share {}: the machine of this snapshot has it as {}", options.shares[i], share.guest_path)};
    }
    share.path = given->path;
    share.read_only = given->read_only;
  }
  for (const machine::ShareConfig& share : config.shares) {
    if (!share.path.empty()) continue;
    return Error{
        fmt::format("this snapshot was imported, and its guest shares {} with its host: add --share "
                    "DIRECTORY:{}",
                    share.guest_path, share.guest_path)};
  }
  return {};
}

}  // namespace

Result<SnapshotStart> make_config_from_snapshot(const RunOptions& options) {
  const Result<snapshot::Reference> reference = snapshot::Reference::parse(options.from);
  if (!reference) return Error{"--from: " + reference.error().message};
  const Result<snapshot::Store> store = snapshot::Store::of_user();
  if (!store) return store.error();
  Result<snapshot::Manifest> manifest = store->find(*reference);
  if (!manifest) return Error{"--from: " + manifest.error().message};
  if (Result<void> fits = check_options(options, *manifest); !fits) return fits.error();
  if (!options.name.empty()) {
    if (const auto good = control::check_vm_name(options.name); !good) return Error{"--name: " + good.error().message};
  }
  Result<MachineConfig> config = snapshot::config_of(*manifest);
  if (!config) return config.error();
  if (Result<void> engine = set_engine(options, *config); !engine) return engine.error();
  config->name = options.name;
  config->no_reboot = config->no_reboot || options.no_reboot;
  if (Result<void> connected = connect_networks(options, *manifest, *config); !connected) return connected.error();
  if (Result<void> connected = connect_shares(options, *config); !connected) return connected.error();
  config->disks = snapshot::disks_of(*manifest, store->directory(manifest->machine, manifest->tag));
  Result<std::shared_ptr<machine::SavedMachine>> saved = store->open(*manifest);
  if (!saved) return saved.error();
  (*saved)->load_boot_files = boot_file_loader(*manifest);
  config->saved = *std::move(saved);
  return SnapshotStart{*std::move(config), *std::move(manifest)};
}

}  // namespace doppel::cli
