#include "snapshot/machine_manifest.h"

#include <fmt/format.h>

#include <filesystem>

namespace doppel::snapshot {
namespace {

/// Files that are part of the program have names in parentheses.
std::string absolute(const std::string& path) {
  if (path.empty() || path.starts_with('(')) return path;
  std::error_code error;
  const std::filesystem::path result = std::filesystem::absolute(path, error);
  return error ? path : result.lexically_normal().string();
}

Manifest::Network describe(const machine::NetworkConfig& config) {
  Manifest::Network network;
  network.kind = config.kind == machine::NetworkConfig::Kind::Tap ? "tap" : "user";
  network.restricted = config.user.restricted;
  network.mac = config.mac.value_or(network.mac);
  network.interface = config.interface;
  for (const net::PublishedPort& port : config.user.published) {
    network.published.push_back(
        fmt::format("{}:{}:{}/{}", port.host_address, port.host_port, port.guest_port, port.udp ? "udp" : "tcp"));
  }
  return network;
}

}  // namespace

Manifest describe_machine(const machine::MachineConfig& config) {
  Manifest manifest;
  manifest.machine = config.name;
  manifest.cpus = config.cpus;
  manifest.memory_bytes = config.memory_bytes;
  manifest.balloon = config.balloon;
  manifest.console = config.virtio_console;
  manifest.vsock = config.vsock_listener != nullptr;
  manifest.no_reboot = config.no_reboot;
  manifest.kernel = absolute(config.kernel.path);
  for (const machine::BootFile& initrd : config.initrds) manifest.initrds.push_back(absolute(initrd.path));
  manifest.command_line = config.command_line;
  for (const machine::NetworkConfig& network : config.networks) manifest.networks.push_back(describe(network));
  for (const machine::ShareConfig& share : config.shares) {
    manifest.shares.push_back({share.tag, absolute(share.path), share.guest_path, share.read_only});
  }
  return manifest;
}

Result<machine::MachineConfig> config_of(const Manifest& manifest) {
  machine::MachineConfig config;
  config.name = manifest.machine;
  config.cpus = manifest.cpus;
  config.memory_bytes = manifest.memory_bytes;
  config.balloon = manifest.balloon;
  config.virtio_console = manifest.console;
  config.no_reboot = manifest.no_reboot;
  config.kernel.path = manifest.kernel;
  for (const std::string& path : manifest.initrds) config.initrds.push_back({path, {}, {}});
  config.command_line = manifest.command_line;
  for (const Manifest::Network& saved : manifest.networks) {
    machine::NetworkConfig network;
    network.kind = saved.kind == "tap" ? machine::NetworkConfig::Kind::Tap : machine::NetworkConfig::Kind::User;
    network.user.restricted = saved.restricted;
    network.mac = saved.mac;
    network.interface = saved.interface;
    for (const std::string& text : saved.published) {
      Result<net::PublishedPort> port = net::PublishedPort::parse(text);
      if (!port) return Error{"the snapshot's manifest is damaged: " + port.error().message};
      network.user.published.push_back(*std::move(port));
    }
    config.networks.push_back(std::move(network));
  }
  for (const Manifest::Share& share : manifest.shares) {
    config.shares.push_back({share.tag, share.path, share.guest_path, share.read_only, {}});
  }
  return config;
}

std::vector<machine::DiskConfig> disks_of(const Manifest& manifest, const std::string& directory) {
  std::vector<machine::DiskConfig> disks;
  for (const Manifest::Disk& saved : manifest.disks) {
    machine::DiskConfig disk;
    disk.path = saved.file.empty() ? saved.base : directory + "/" + saved.file;
    disk.serial = saved.serial;
    disk.options.format = saved.format;
    disk.options.read_only = saved.read_only;
    disk.options.discard = saved.discard;
    disk.options.cache = saved.direct ? storage::CacheMode::None : storage::CacheMode::Writeback;
    disk.snapshot = !saved.read_only;
    disks.push_back(std::move(disk));
  }
  return disks;
}

Result<void> can_be_saved(const machine::MachineConfig& config) {
  if (!config.modules.empty()) return Error{"machines with Multiboot modules cannot be saved"};
  return {};
}

}  // namespace doppel::snapshot
