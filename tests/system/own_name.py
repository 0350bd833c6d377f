"""Tries to take the service's name. Exits with 0 when the bus refuses."""
import sys

import dbus

try:
    dbus.SystemBus().request_name("org.bitnetd.Bitnetd1", dbus.bus.NAME_FLAG_REPLACE_EXISTING)
except dbus.exceptions.DBusException as error:
    sys.exit(0 if error.get_dbus_name() == "org.freedesktop.DBus.Error.AccessDenied" else 2)
sys.exit(1)
