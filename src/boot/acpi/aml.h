#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

/// An encoder for the part of the ACPI Machine Language that our DSDT needs (ACPI 6.5, chapter 20). Each function
/// returns the bytes of one term, named as in ASL; terms nest by being passed on. Pure, for names and values known to
/// be right: the input is ours, never a guest's.
namespace doppel::boot::acpi::aml {

using Bytes = std::vector<std::uint8_t>;

Bytes concat(std::initializer_list<Bytes> terms);

// --- Data ---

/// "\_SB.COM1", "^CPU0", "_HID": every segment is padded to four characters.
Bytes name_string(std::string_view path);
Bytes integer(std::uint64_t value);
Bytes string(std::string_view text);
Bytes package(std::initializer_list<Bytes> elements);
Bytes package(const std::vector<Bytes>& elements);
Bytes buffer(const Bytes& contents);
/// The compressed form of a Plug and Play ID such as "PNP0501".
Bytes eisa_id(std::string_view id);

// --- Objects ---

Bytes name(std::string_view path, const Bytes& value);
Bytes scope(std::string_view path, const Bytes& terms);
Bytes device(std::string_view path, const Bytes& terms);
/// A method without arguments.
Bytes method(std::string_view path, const Bytes& terms);
/// The _OSC of a PCI host bridge (PCI Firmware Specification 3.3, 4.5.1): the operating system may have those of the
/// features in its control word that are in `grantable`.
Bytes osc_granting(std::uint32_t grantable);
Bytes notify(std::string_view object, std::uint64_t value);

// --- Resources (ACPI 6.5, 6.4) ---

/// The buffer that _CRS returns: descriptors and the end tag.
Bytes resource_template(std::initializer_list<Bytes> descriptors);
/// 16-bit decode, fixed address.
Bytes io(std::uint16_t base, std::uint8_t length);
/// Edge-triggered, active high, exclusive.
Bytes irq_no_flags(unsigned irq);
/// 8- and 16-bit transfers, bus master, compatible timing.
Bytes dma(unsigned channel);
Bytes memory32_fixed(std::uint32_t base, std::uint32_t length, bool writable);
/// Ranges that a bridge hands on to the devices behind it; both ends are included.
Bytes word_bus_number(std::uint16_t first, std::uint16_t last);
Bytes word_io(std::uint16_t first, std::uint16_t last);
Bytes dword_memory(std::uint32_t first, std::uint32_t last);
Bytes qword_memory(std::uint64_t first, std::uint64_t last);

}  // namespace doppel::boot::acpi::aml
