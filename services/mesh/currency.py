"""ISO 4217: currency code -> exponent (how many decimal digits its minor unit has).

``amount_minor`` is in minor units; ``amount`` in major units is ``amount_minor / 10 ** exponent``. The table holds the
codes in force and, because history can be replayed, those withdrawn since 2014. Metals, testing codes and others
without a minor unit are left out: nobody pays with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_BY_EXPONENT = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF "
        "CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG "
        "HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
        "MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD "
        "SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG "
        "YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_WITHDRAWN_BY_EXPONENT = {0: "BYR", 2: "ANG CUC HRK LTL MRO SLL STD VEF ZMK ZWL"}

EXPONENTS: Mapping[str, int] = MappingProxyType(
    {
        code: exponent
        for table in (_BY_EXPONENT, _WITHDRAWN_BY_EXPONENT)
        for exponent, codes in table.items()
        for code in codes.split()
    }
)
