#include "cli/run_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace doppel::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Kind = machine::NetworkConfig::Kind;

TEST(ParseNetworks, NoneIsNoCard) {
  EXPECT_TRUE(parse_networks({}, {})->empty());
  EXPECT_TRUE(parse_networks({"none"}, {})->empty());
}

TEST(ParseNetworks, AUserNetworkHasPublishedPortsAndMayBeRestricted) {
  const auto plain = parse_networks({"user"}, {});
  ASSERT_TRUE(plain);
  ASSERT_EQ(plain->size(), 1U);
  EXPECT_EQ(plain->front().kind, Kind::User);
  EXPECT_TRUE(plain->front().user.published.empty());
  EXPECT_FALSE(plain->front().user.restricted);
  EXPECT_FALSE(plain->front().mac);

  const auto networks = parse_networks({"user,publish=8080:80,publish=0.0.0.0:5353:53/udp,restrict"}, {});
  ASSERT_TRUE(networks) << networks.error().message;
  const net::UserNetworkConfig& user = networks->front().user;
  EXPECT_EQ(user.published.size(), 2U);
  EXPECT_TRUE(user.restricted);
  EXPECT_FALSE(parse_networks({"user,restrict=off"}, {})->front().user.restricted);
}

TEST(ParseNetworks, AddressesAreGivenToCardsInTheirOrder) {
  const auto networks = parse_networks({"user,mac=02:00:00:00:00:01", "none", "user", "user"},
                                       {"02:aB:Cd:eF:00:ff", "52:54:00:00:00:02"});
  ASSERT_TRUE(networks) << networks.error().message;
  ASSERT_EQ(networks->size(), 3U);
  EXPECT_THAT(*(*networks)[0].mac, ElementsAre(0x02, 0xAB, 0xCD, 0xEF, 0x00, 0xFF));
  EXPECT_THAT(*(*networks)[1].mac, ElementsAre(0x52, 0x54, 0, 0, 0, 2));
  EXPECT_FALSE((*networks)[2].mac);
}

TEST(ParseNetworks, SaysWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"bridge", "there are user, tap and none"},
      {"", "there are user, tap and none"},
      {"user,ifname=tap0", "user has publish, restrict and mac"},
      {"user,publish=80", "80"},
      {"user,publish=1:2:3:4:5", "1:2:3:4:5"},
      {"user,publish=70000:80", "70000"},
      {"user,restrict=perhaps", "unknown option restrict"},
      {"tap", "name of its interface"},
      {"tap,publish=1:2", "tap has ifname and mac"},
      {"user,mac=02:00:00:00:00", "is no MAC address"},
      {"user,mac=02-00-00-00-00-01", "is no MAC address"},
      {"user,mac=02:00:00:00:00:0g", "is no MAC address"},
      {"user,mac=01:00:5e:00:00:01", "of a group"},
  };
  for (const auto& [text, expected] : cases) {
    const auto networks = parse_networks({text}, {});
    ASSERT_FALSE(networks) << text;
    EXPECT_THAT(networks.error().message, HasSubstr(expected)) << text;
    EXPECT_THAT(networks.error().message, testing::StartsWith("--net " + text));
  }
}

TEST(ParseNetworks, AnAddressNeedsACard) {
  EXPECT_THAT(parse_networks({"none"}, {"02:00:00:00:00:01"}).error().message, HasSubstr("more addresses than cards"));
  EXPECT_THAT(parse_networks({"user"}, {"nonsense"}).error().message, HasSubstr("--mac"));
}

}  // namespace
}  // namespace doppel::cli
