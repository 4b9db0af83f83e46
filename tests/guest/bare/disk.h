#pragma once

#include "bare.h"

/// A virtio block device on the PCI bus (Virtual I/O Device 1.2, 2.7, 4.1, 5.2): what writes to memory beside
/// processors. One request at a time, by one processor; the device raises no interrupts.

enum { kSectorSize = 512 };

/// Looks for the device and sets it up, unless that has been done. False when there is none.
bool find_disk(void);
/// Begins to move a sector between the disk and memory.
void start_reading(uint64_t sector, void* to);
void start_writing(uint64_t sector, const void* from);
/// Whether the device is through with what was begun last: all of it can be seen.
bool is_disk_done(void);
/// Waits for that; whether it was a success.
bool finish_request(void);
