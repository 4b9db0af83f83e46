#include "boot/acpi/aml.h"

#include <gtest/gtest.h>

namespace doppel::boot::acpi::aml {
namespace {

Bytes ascii(std::string_view text) {
  return {text.begin(), text.end()};
}

TEST(Aml, IntegersTakeTheShortestForm) {
  EXPECT_EQ(integer(0), (Bytes{0x00}));
  EXPECT_EQ(integer(1), (Bytes{0x01}));
  EXPECT_EQ(integer(2), (Bytes{0x0A, 0x02}));
  EXPECT_EQ(integer(0xFF), (Bytes{0x0A, 0xFF}));
  EXPECT_EQ(integer(0x100), (Bytes{0x0B, 0x00, 0x01}));
  EXPECT_EQ(integer(0x12345678), (Bytes{0x0C, 0x78, 0x56, 0x34, 0x12}));
  EXPECT_EQ(integer(0x1'0000'0000), (Bytes{0x0E, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(Aml, NamesArePaddedAndPrefixedByTheirLength) {
  EXPECT_EQ(name_string("_HID"), ascii("_HID"));
  EXPECT_EQ(name_string("RTC"), ascii("RTC_"));
  EXPECT_EQ(name_string("\\"), (Bytes{'\\', 0}));
  EXPECT_EQ(name_string("\\_SB"), ascii("\\_SB_"));
  EXPECT_EQ(name_string("^A"), ascii("^A___"));
  EXPECT_EQ(name_string("\\_SB.COM1"), ascii("\\\x2E_SB_COM1"));
  EXPECT_EQ(name_string("A.B.C"), concat({{0x2F, 3}, ascii("A___B___C___")}));
}

// ACPI 6.5, 20.2.4: up to 63 bytes in one byte, then 4 bits in the first byte and 8 in each that follows.
TEST(Aml, PackageLengthsCountThemselves) {
  const auto length_bytes = [](std::size_t contents) {
    // A scope's contents are its name (5 bytes here) and its terms.
    const Bytes out = scope("\\ABCD", Bytes(contents - 5, 0xA3));
    return Bytes(out.begin() + 1, out.end() - static_cast<std::ptrdiff_t>(contents));
  };
  EXPECT_EQ(length_bytes(62), (Bytes{63}));
  EXPECT_EQ(length_bytes(63), (Bytes{0x41, 0x04}));           // 65 = 0x041
  EXPECT_EQ(length_bytes(0xFFD), (Bytes{0x4F, 0xFF}));        // 0xFFF
  EXPECT_EQ(length_bytes(0xFFE), (Bytes{0x81, 0x00, 0x01}));  // 0x1001
  EXPECT_EQ(length_bytes(0xF'FFFC), (Bytes{0x8F, 0xFF, 0xFF}));
  EXPECT_EQ(length_bytes(0xF'FFFD), (Bytes{0xC1, 0x00, 0x00, 0x01}));
}

// The example of ACPI 6.5, 19.6.38 is EISAID("PNP0C09") = 0x090CD041.
TEST(Aml, EisaIdsAreCompressed) {
  EXPECT_EQ(eisa_id("PNP0C09"), (Bytes{0x0C, 0x41, 0xD0, 0x0C, 0x09}));
  EXPECT_EQ(eisa_id("PNP0A08"), (Bytes{0x0C, 0x41, 0xD0, 0x0A, 0x08}));
}

TEST(Aml, Data) {
  EXPECT_EQ(string("AB"), (Bytes{0x0D, 'A', 'B', 0}));
  EXPECT_EQ(package({integer(5), integer(0)}), (Bytes{0x12, 5, 2, 0x0A, 5, 0}));
  EXPECT_EQ(buffer({7, 8}), (Bytes{0x11, 5, 0x0A, 2, 7, 8}));
}

TEST(Aml, Objects) {
  EXPECT_EQ(name("X", integer(1)), (Bytes{0x08, 'X', '_', '_', '_', 1}));
  EXPECT_EQ(device("X", {}), (Bytes{0x5B, 0x82, 5, 'X', '_', '_', '_'}));
  EXPECT_EQ(method("X", {}), (Bytes{0x14, 6, 'X', '_', '_', '_', 0}));
  EXPECT_EQ(notify("X", 0x80), (Bytes{0x86, 'X', '_', '_', '_', 0x0A, 0x80}));
}

// ACPI 6.5, 6.4.2 and 6.4.3.
TEST(Aml, ResourceDescriptors) {
  EXPECT_EQ(io(0x3F8, 8), (Bytes{0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8}));
  EXPECT_EQ(irq_no_flags(12), (Bytes{0x22, 0x00, 0x10}));
  EXPECT_EQ(dma(4), (Bytes{0x2A, 0x10, 0x05}));
  EXPECT_EQ(memory32_fixed(0xFED00000, 0x400, false), (Bytes{0x86, 9, 0, 0, 0, 0, 0xD0, 0xFE, 0, 4, 0, 0}));
  EXPECT_EQ(word_io(0xD00, 0xFFFF), (Bytes{0x88, 13, 0, 1, 0x0C, 3, 0, 0, 0x00, 0x0D, 0xFF, 0xFF, 0, 0, 0x00, 0xF3}));
  EXPECT_EQ(word_bus_number(0, 255), (Bytes{0x88, 13, 0, 2, 0x0C, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 1}));
  EXPECT_EQ(dword_memory(0xC0000000, 0xDFFFFFFF), (Bytes{0x87, 23,   0,    0,    0x0C, 1, 0, 0, 0, 0, 0, 0, 0,
                                                         0xC0, 0xFF, 0xFF, 0xFF, 0xDF, 0, 0, 0, 0, 0, 0, 0, 0x20}));
  EXPECT_EQ(qword_memory(0, 0xFF).size(), 3U + 43U);
  EXPECT_EQ(resource_template({irq_no_flags(4)}), (Bytes{0x11, 8, 0x0A, 5, 0x22, 0x10, 0x00, 0x79, 0x00}));
}

}  // namespace
}  // namespace doppel::boot::acpi::aml
