#include "boot/acpi/acpi.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>

#include "base/temporary_directory.h"
#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot::acpi {
namespace {

using testing::HasSubstr;
using testing::Not;
using Table = std::vector<std::uint8_t>;

std::uint8_t sum(std::span<const std::byte> bytes) {
  return static_cast<std::uint8_t>(std::accumulate(
      bytes.begin(), bytes.end(), 0U, [](unsigned a, std::byte b) { return a + std::to_integer<unsigned>(b); }));
}

/// Follows the pointers from the RSDP as an operating system does.
class AcpiTables : public testing::TestWithParam<AcpiConfig> {
 protected:
  void SetUp() override {
    const auto rsdp = write_tables(*memory_, GetParam());
    ASSERT_TRUE(rsdp) << rsdp.error().message;
    rsdp_ = *rsdp;
  }

  template <class T>
  T at(std::uint64_t address) {
    return test::get<T>(*memory_, address);
  }
  std::string signature(std::uint64_t address) {
    const auto raw = memory_->view(address, 4);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }
  std::span<const std::byte> table(std::uint64_t address) {
    return memory_->view(address, at<std::uint32_t>(address + 4));
  }
  /// Addresses of the tables in the XSDT, by signature, and of the DSDT and FACS that the FADT names.
  std::map<std::string, std::uint64_t> tables() {
    std::map<std::string, std::uint64_t> found;
    const auto xsdt = at<std::uint64_t>(rsdp_ + 24);
    for (std::uint64_t entry = xsdt + 36; entry < xsdt + table(xsdt).size(); entry += 8) {
      const auto address = at<std::uint64_t>(entry);
      found[signature(address)] = address;
    }
    found["FACS"] = at<std::uint32_t>(found.at("FACP") + 36);
    found["DSDT"] = at<std::uint64_t>(found.at("FACP") + 140);
    return found;
  }

  std::unique_ptr<memory::GuestMemory> memory_ = test::make_memory(64);
  std::uint64_t rsdp_ = 0;
};

TEST_P(AcpiTables, RootPointerIsWhereKernelsSearchAndItsChecksumsHold) {
  EXPECT_EQ(rsdp_ % 16, 0U);
  EXPECT_GE(rsdp_, 0xE'0000U);
  EXPECT_LT(rsdp_, 0x10'0000U);
  const auto raw = memory_->view(rsdp_, 36);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(raw.data()), 8), "RSD PTR ");
  EXPECT_EQ(sum(raw.first(20)), 0);
  EXPECT_EQ(sum(raw), 0);
}

TEST_P(AcpiTables, RsdtAndXsdtAgree) {
  const auto rsdt = at<std::uint32_t>(rsdp_ + 16);
  const auto xsdt = at<std::uint64_t>(rsdp_ + 24);
  EXPECT_EQ(signature(rsdt), "RSDT");
  EXPECT_EQ(signature(xsdt), "XSDT");
  const std::size_t count = (table(rsdt).size() - 36) / 4;
  ASSERT_EQ((table(xsdt).size() - 36) / 8, count);
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_EQ(at<std::uint32_t>(rsdt + 36 + 4 * i), at<std::uint64_t>(xsdt + 36 + 8 * i));
  }
}

TEST_P(AcpiTables, LieApartInTheirAreaWithValidChecksums) {
  std::map<std::uint64_t, std::uint64_t> places{{rsdp_, rsdp_ + 36}};
  auto all = tables();
  all["RSDT"] = at<std::uint32_t>(rsdp_ + 16);
  all["XSDT"] = at<std::uint64_t>(rsdp_ + 24);
  for (const auto& [name, address] : all) {
    EXPECT_EQ(signature(address), name);
    places[address] = address + table(address).size();
    if (name != "FACS") {
      EXPECT_EQ(sum(table(address)), 0) << name;
    }
  }
  EXPECT_EQ(places.size(), all.size() + 1);
  std::uint64_t end = layout::kAcpiTables;
  for (const auto& [from, to] : places) {
    EXPECT_GE(from, end);
    end = to;
  }
  EXPECT_LE(end, layout::kAcpiTablesEnd);
  EXPECT_EQ(all.at("FACS") % 64, 0U);
  EXPECT_EQ(all.count("MCFG"), GetParam().pci_ecam ? 1U : 0U);
}

TEST_P(AcpiTables, MadtListsTheProcessorsAndTheBoard) {
  const std::uint64_t madt = tables().at("APIC");
  EXPECT_EQ(at<std::uint32_t>(madt + 36), layout::kLocalApicBase);
  EXPECT_EQ(at<std::uint32_t>(madt + 40), 1U) << "PCAT_COMPAT: there are 8259s";
  std::vector<unsigned> ids;
  std::map<unsigned, std::uint32_t> overrides;
  unsigned ioapics = 0, nmis = 0;
  for (std::uint64_t entry = madt + 44; entry < madt + table(madt).size(); entry += at<std::uint8_t>(entry + 1)) {
    ASSERT_GT(at<std::uint8_t>(entry + 1), 0);
    switch (at<std::uint8_t>(entry)) {
      case 0:
        ids.push_back(at<std::uint8_t>(entry + 3));
        EXPECT_EQ(at<std::uint32_t>(entry + 4), 1U);
        break;
      case 1:
        ++ioapics;
        EXPECT_EQ(at<std::uint32_t>(entry + 4), layout::kIoApicBase);
        EXPECT_EQ(at<std::uint32_t>(entry + 8), 0U);
        break;
      case 2:
        overrides[at<std::uint8_t>(entry + 3)] = at<std::uint32_t>(entry + 4);
        break;
      case 4:
        ++nmis;
        EXPECT_EQ(at<std::uint8_t>(entry + 2), 0xFF);
        EXPECT_EQ(at<std::uint8_t>(entry + 5), 1);
        break;
      default:
        ADD_FAILURE() << "unexpected structure " << unsigned{at<std::uint8_t>(entry)};
    }
  }
  std::vector<unsigned> expected(GetParam().cpus);
  std::iota(expected.begin(), expected.end(), 0U);
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(ioapics, 1U);
  EXPECT_EQ(nmis, 1U);
  EXPECT_EQ(overrides, (std::map<unsigned, std::uint32_t>{{0, 2}, {9, 9}}));
}

TEST_P(AcpiTables, WritesTheGenerationIdentifier) {
  const auto raw = memory_->view(layout::kVmGenId, 16);
  EXPECT_TRUE(std::equal(raw.begin(), raw.end(), std::as_bytes(std::span{GetParam().vm_generation_id}).begin()));
}

/// Every table through Intel's disassembler, and what it makes of the DSDT back through the compiler: no complaint.
TEST_P(AcpiTables, IntelsCompilerHasNothingToSay) {
  if (std::system("command -v iasl >/dev/null") != 0) GTEST_SKIP() << "iasl (package acpica-tools) is not installed";
  const test::TemporaryDirectory directory;
  for (const auto& [name, address] : tables()) {
    const auto raw = table(address);
    std::ofstream(directory / (name + ".dat"), std::ios::binary)
        .write(reinterpret_cast<const char*>(raw.data()), static_cast<std::streamsize>(raw.size()));
    const std::string command =
        fmt::format("cd {0} && iasl -d {1}.dat >{1}.log 2>&1 && iasl -vr -p again-{1} {1}.dsl >>{1}.log 2>&1",
                    directory.path(), name);
    EXPECT_EQ(std::system(command.c_str()), 0);
    std::stringstream log;
    log << std::ifstream(directory / (name + ".log")).rdbuf();
    EXPECT_THAT(log.str(), HasSubstr("0 Errors, 0 Warnings")) << name;
    EXPECT_THAT(log.str(), Not(HasSubstr("ACPI Error"))) << name;
    EXPECT_THAT(log.str(), Not(HasSubstr("ACPI Warning"))) << name;
    EXPECT_THAT(log.str(), Not(HasSubstr("ncorrect checksum"))) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Machines, AcpiTables,
                         testing::Values(AcpiConfig{}, AcpiConfig{.cpus = 4, .vm_generation_id = {1, 2, 3}},
                                         AcpiConfig{.cpus = 16, .pci = true},
                                         AcpiConfig{.cpus = 16, .pci = true, .pci_ecam = true}),
                         [](const auto& info) {
                           return std::to_string(info.param.cpus) + "Cpus" + (info.param.pci ? "Pci" : "") +
                                  (info.param.pci_ecam ? "Ecam" : "");
                         });

TEST(AcpiConfigTest, RefusesImpossibleNumbersOfProcessors) {
  const auto memory = test::make_memory(16);
  EXPECT_FALSE(write_tables(*memory, {.cpus = 0}));
  EXPECT_FALSE(write_tables(*memory, {.cpus = layout::kMaxCpus + 1}));
}

// Offsets and values from ACPI 6.5, table 5.9.
TEST(Fadt, PointsToThePlatform) {
  const Table fadt = make_fadt(0xE'0040, 0xE'0080);
  ASSERT_EQ(fadt.size(), 276U);
  const auto u8 = [&](std::size_t offset) { return unsigned{fadt[offset]}; };
  const auto u16 = [&](std::size_t offset) { return unsigned{load_le<std::uint16_t>(fadt.data() + offset)}; };
  const auto u32 = [&](std::size_t offset) { return load_le<std::uint32_t>(fadt.data() + offset); };
  const auto u64 = [&](std::size_t offset) { return load_le<std::uint64_t>(fadt.data() + offset); };
  EXPECT_EQ(u8(8), 6U);
  EXPECT_EQ(u32(36), 0xE'0040U);
  EXPECT_EQ(u32(40), 0xE'0080U);
  EXPECT_EQ(u64(132), 0U) << "only one of the two FACS addresses may be set";
  EXPECT_EQ(u64(140), 0xE'0080U);
  EXPECT_EQ(u16(46), layout::kSciIrq);
  EXPECT_EQ(u32(48), 0U) << "no SMI command: always in ACPI mode";
  EXPECT_EQ(u32(112) & (1 << 4), 0U) << "the power button is fixed hardware";
  EXPECT_NE(u32(112) & (1 << 5), 0U) << "there is no sleep button";
  EXPECT_NE(u32(112) & (1 << 8), 0U) << "32-bit timer";
  EXPECT_EQ(u8(108), 0x32U) << "the century is in CMOS";
  EXPECT_EQ(u8(128), layout::kResetValue);
  // Address and length in the old fields equal those of the generic addresses.
  struct Block {
    std::size_t old_address, old_length, generic;
  };
  for (const Block& block : {Block{56, 88, 148}, Block{64, 89, 172}, Block{76, 91, 208}, Block{80, 92, 220}}) {
    EXPECT_NE(u32(block.old_address), 0U);
    EXPECT_EQ(u32(block.old_address), u64(block.generic + 4));
    EXPECT_EQ(u8(block.old_length) * 8, u8(block.generic + 1));
    EXPECT_EQ(u8(block.generic), 1U) << "system I/O";
  }
}

}  // namespace
}  // namespace doppel::boot::acpi
