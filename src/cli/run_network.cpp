#include "cli/run_network.h"

#include <fmt/format.h>

#include <charconv>

#include "cli/option_list.h"

namespace doppel::cli {
namespace {

using machine::NetworkConfig;
using Mac = std::array<std::uint8_t, 6>;

Result<Mac> parse_mac(const std::string& text) {
  const Error wrong{fmt::format("{} is no MAC address: write six hexadecimal bytes, as in 02:00:00:12:34:56", text)};
  Mac mac{};
  constexpr std::size_t kLength = 17;
  if (text.size() != kLength) return wrong;
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* const start = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(start, start + 2, mac[i], 16);
    if (error != std::errc{} || end != start + 2 || (i < 5 && *end != ':')) return wrong;
  }
  if ((mac[0] & 1) != 0) return Error{fmt::format("{} is the MAC address of a group, not of a card", text)};
  return mac;
}

Result<void> apply_user(const std::string& key, const std::string& value, net::UserNetworkConfig& user) {
  if (key == "publish") {
    Result<net::PublishedPort> port = net::PublishedPort::parse(value);
    if (!port) return port.error();
    user.published.push_back(*std::move(port));
    return {};
  }
  if (key == "restrict" && (value.empty() || value == "on" || value == "off")) {
    user.restricted = value != "off";
    return {};
  }
  return Error{fmt::format("unknown option {}: user has publish, restrict and mac", key)};
}

Result<NetworkConfig> parse_network(const std::string& text) {
  const OptionList list = OptionList::parse(text);
  NetworkConfig network;
  std::string interface;
  if (list.first == "tap") {
    network.kind = NetworkConfig::Kind::Tap;
  } else if (list.first != "user") {
    return Error{fmt::format("there are user, tap and none, not {}", list.first)};
  }
  for (const auto& [key, value] : list.rest) {
    if (key == "mac") {
      const Result<Mac> mac = parse_mac(value);
      if (!mac) return mac.error();
      network.mac = *mac;
    } else if (network.kind == NetworkConfig::Kind::User) {
      if (const Result<void> applied = apply_user(key, value, network.user); !applied) return applied.error();
    } else if (key == "ifname") {
      interface = value;
    } else {
      return Error{fmt::format("unknown option {}: tap has ifname and mac", key)};
    }
  }
  if (network.kind == NetworkConfig::Kind::User) return network;
  if (interface.empty()) return Error{"a tap needs the name of its interface: tap,ifname=tap0"};
  Result<net::TapInterface> tap = net::TapInterface::open(interface);
  if (!tap) return tap.error();
  network.tap = std::make_shared<net::TapInterface>(*std::move(tap));
  network.interface = interface;
  return network;
}

}  // namespace

Result<std::vector<NetworkConfig>> parse_networks(const std::vector<std::string>& nets,
                                                  const std::vector<std::string>& macs) {
  std::vector<NetworkConfig> networks;
  for (const std::string& text : nets) {
    if (text == "none") continue;
    Result<NetworkConfig> network = parse_network(text);
    if (!network) return Error{fmt::format("--net {}: {}", text, network.error().message)};
    networks.push_back(*std::move(network));
  }
  if (macs.size() > networks.size()) return Error{"--mac: there are more addresses than cards; add --net user"};
  for (std::size_t i = 0; i < macs.size(); ++i) {
    const Result<Mac> mac = parse_mac(macs[i]);
    if (!mac) return Error{fmt::format("--mac: {}", mac.error().message)};
    networks[i].mac = *mac;
  }
  return networks;
}

}  // namespace doppel::cli
